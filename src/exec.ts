/**
 * A further process in a running container: in all its namespaces, in its unit's cgroup, as its user.
 *
 * The host's nsenter joins the namespaces; from then on the process has the ids of the container's range. Only then
 * does anything of the image matter: the loader and setpriv are the ones that the shim brought in (src/unit/shim.ts).
 *
 * Invariants
 * - The process is in the container's cgroup before it enters the container, so nothing it does escapes the container's
 *   limits.
 * - It has no descriptor but its three streams: a directory of the host that our caller has open is a way out.
 * - The terminal of who calls us is neither a stream of it nor that of its session: it could type there (TIOCSTI).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { arch, constants } from 'node:os';
import { pid as ownPid } from 'node:process';
import { isatty } from 'node:tty';
import { buildEnvironment } from './bundle/environment.ts';
import { byOption, resolveUser } from './bundle/user.ts';
import type { ContainerRecord } from './containers.ts';
import { check, closeOnExec, inodeOf, namespaceOwner } from './host/syscalls.ts';
import type { Terminal } from './host/terminal.ts';
import { OciError, quote } from './oci/errors.ts';
import type { Process } from './oci/runtime-spec.ts';
import { openMergedTree } from './store/merged-tree.ts';
import type { Manager } from './systemd/manager.ts';
import { boundedArgv, hasHostUsers } from './unit/host-users.ts';
import { payloadSubgroup } from './unit/pause.ts';
import { planSeccomp } from './unit/seccomp.ts';
import { execArgv, joinAll } from './unit/shim.ts';

/**
 * Runs `process` with this process's own streams or, with a terminal, on a new one of the container's devpts; its
 * exit status, or 128 + the signal that ended it. `input`: what is typed on a terminal of ours is passed on, too.
 */
export async function execInContainer(
  container: ContainerRecord,
  pid: number,
  process: Process,
  manager: Manager,
  input: boolean,
  terminal?: Terminal,
): Promise<number> {
  const seccomp = planSeccomp(container.spec, arch())?.program !== undefined;
  const hostUsers = hasHostUsers(container.spec);
  const mountNamespace = openMountNamespace(container, pid);
  const gated = spawnGated(
    [
      ...boundedArgv(container.spec),
      ...['nsenter', `--target=${pid}`, ...joinAll(`/proc/${ownPid}/fd/${mountNamespace}`, hostUsers)],
      ...['--', ...execArgv(process, seccomp)],
    ],
    terminal === undefined ? ownStreams(input) : new Array<number>(3).fill(terminal.slave),
    terminal === undefined,
  );
  const ended = endOf(gated);
  if (terminal === undefined) {
    relayStreams(gated);
    forwardSignals(gated.pid!);
  }
  try {
    await manager.attach(`${container.unit}.service`, payloadSubgroup(container.spec), [gated.pid!]);
  } catch (error) {
    gated.kill('SIGKILL');
    throw error;
  }
  terminal?.started();
  const joined = terminal?.join(true);
  (gated.stdio[3] as NodeJS.WritableStream).end('\n');
  await joined;
  return ended;
}

/** Its exit status, or 128 + the signal. Listens from now on: it may be killed while something else is awaited. */
function endOf(gated: ChildProcess): Promise<number> {
  const ended = new Promise<number>((resolve, reject) => {
    gated.on('error', reject);
    gated.on('close', (status, signal) => resolve(status ?? 128 + constants.signals[signal!]));
  });
  ended.catch(() => {}); // for whoever awaits it
  gated.stdio[3]?.on('error', () => {}); // nobody reads the line any more, which its end tells
  return ended;
}

/** Stays open as long as we live. Throws DENIED where it is not the one that systemd made: see joinAll(). */
function openMountNamespace({ unit }: ContainerRecord, pid: number): number {
  const fd = openSync(`/proc/${pid}/ns/mnt`, 'r');
  const ours = openSync('/proc/self/ns/user', 'r');
  try {
    if (namespaceOwner(fd) === inodeOf(ours)) return fd;
  } finally {
    closeSync(ours);
  }
  closeSync(fd);
  throw new OciError(
    'DENIED',
    `the first process of container ${quote(unit)} is in a mount namespace that it made`,
    {
      hint: 'Enter it without protection: nsenter --target PID --all.',
    },
  );
}

export interface ExecRequest {
  args: string[];
  /** `NAME=VALUE`, or `NAME` to be taken from `callerEnv`; added to the container's own. */
  env: string[];
  callerEnv: Readonly<Record<string, string | undefined>>;
  /** Default: the container's. */
  user?: string;
  cwd?: string;
  terminal: boolean;
}

/** The container's own process, with what the request changes. A user is looked up in the running container. */
export function execProcess({ spec }: ContainerRecord, pid: number, request: ExecRequest): Process {
  const own = spec.process;
  const user = request.user === undefined ? undefined : lookUpUser(pid, request.user);
  const home = user?.home ?? '/';
  return {
    ...own,
    args: request.args,
    terminal: request.terminal,
    cwd: request.cwd ?? own.cwd,
    ...(user === undefined
      ? {}
      : { user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids } }),
    env: buildEnvironment({
      image: own.env,
      user: [
        ...(user === undefined ? [] : [`HOME=${home}`]),
        ...(request.terminal ? ['TERM'] : []),
        ...request.env,
      ],
      caller: request.callerEnv,
      home,
      hostname: spec.hostname ?? '',
    }),
  };
}

const USER_DATABASE_MAX_BYTES = 4 * 1024 * 1024;

/** In the container's tree as it is now; its symbolic links lead nowhere outside it. */
function lookUpUser(pid: number, user: string): ReturnType<typeof resolveUser> {
  const tree = openMergedTree([`/proc/${pid}/root/.`]);
  try {
    const text = (path: string) => tree.readFile(path, USER_DATABASE_MAX_BYTES)?.toString() ?? '';
    return byOption('--user', () =>
      resolveUser(user, { passwd: text('/etc/passwd'), group: text('/etc/group') }),
    );
  } finally {
    tree.close();
  }
}

/** After the standard streams. */
const FIRST_OTHER_FD = 3;

/**
 * A process that waits for a line on its descriptor 3 before it becomes `argv`. `session`: in one of its own, without a
 * terminal.
 */
function spawnGated(argv: readonly string[], streams: readonly Stream[], session: boolean): ChildProcess {
  // node sees to those alone that follow one another from 0 on
  check(closeOnExec(FIRST_OTHER_FD), 'close_range', 'the descriptors of the caller');
  return spawn('/bin/sh', ['-c', 'read -r _ <&3 || exit 125; exec 3<&-; exec "$@"', 'sh', ...argv], {
    stdio: [...streams, 'pipe'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    detached: session,
  });
}

type Stream = number | 'inherit' | 'pipe' | 'ignore';

/** A terminal is not handed over. To read from it unasked would stop us in the background. */
function ownStreams(input: boolean): Stream[] {
  return [
    !isatty(0) ? 'inherit' : input ? 'pipe' : 'ignore',
    isatty(1) ? 'pipe' : 'inherit',
    isatty(2) ? 'pipe' : 'inherit',
  ];
}

/** Copies what a pipe stands for until the process has ended. */
function relayStreams(gated: ChildProcess): void {
  const { stdin, stdout, stderr } = gated;
  if (stdin !== null) {
    stdin.on('error', () => process.stdin.destroy()); // nobody reads any more
    process.stdin.on('error', () => stdin.end()).pipe(stdin);
    gated.on('exit', () => process.stdin.destroy());
  }
  stdout?.pipe(process.stdout, { end: false });
  stderr?.pipe(process.stderr, { end: false });
}

/** The keys of our terminal reach this program alone. */
function forwardSignals(group: number): void {
  for (const signal of ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const)
    process.on(signal, () => {
      try {
        process.kill(-group, signal);
      } catch {
        // it has just ended
      }
    });
}
