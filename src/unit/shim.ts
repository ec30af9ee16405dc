/**
 * The shim: the words before the payload's own that make a process of the unit the payload. No code of ours: it is
 * the host's nsenter(1), setpriv(1) and env(1), run by a copy of the host's dynamic loader, all bound read-only at
 * /run/.oci.
 *
 * Invariants (security)
 * - Nothing of the image steers the shim, which has all capabilities of the container's user namespace until setpriv
 *   takes them away. The copies look for their files below /sys instead of /etc, /var and /usr (setup-script.ts), so
 *   the image's ld.so.preload, nsswitch.conf, passwd and locales are the payload's alone. Variables that the loader
 *   or libc heed come with env at the very end.
 * - All the same it starts as the container root's host id WITHOUT any capability of the host. Never start it with more
 *   than that, or than host-users.ts says.
 */
import { CAPABILITIES } from '../oci/capability.ts';
import { quote } from '../oci/errors.ts';
import type { Capabilities, Process } from '../oci/runtime-spec.ts';
import { refusal } from './refuse.ts';

export const SHIM_DIR = '/run/.oci';

const LOADER = [`${SHIM_DIR}/ld.so`, '--inhibit-cache', '--library-path', SHIM_DIR];

/** A compiled filter, where a process is to load one (seccomp.ts). */
export const SECCOMP_FILTER = `${SHIM_DIR}/seccomp`;

/**
 * `hostUsers`: there is no user namespace to join (host-users.ts). `uts`: there is one of that kind. `init`: a static program
 * of the host, at SHIM_DIR/init, that becomes PID 1.
 */
export interface ShimOptions {
  hostUsers?: boolean;
  uts: boolean;
  /** Load SECCOMP_FILTER. */
  seccomp?: boolean;
  init?: string | undefined;
  /** Enter the working directory. */
  cwd?: boolean;
  /** The payload is handed sockets in a pid namespace of its own. */
  sockets?: boolean;
}

/** Of a user namespace that nsenter(1) joins. */
const AS_ROOT = ['-S', '0', '-G', '0'];

/** argv of ExecStart=: join the container's user and uts namespaces, become the user, run the payload. */
export function shimArgv(process: Process, options: ShimOptions = { uts: true }): string[] {
  const late = [
    ...process.env.filter((entry) => !fitsUnit(entry)),
    // 257 tells the number that it has on the host; an init's first child is the second process
    ...(options.sockets ? [`LISTEN_PID=${options.init === undefined ? 1 : 2}`] : []),
  ];
  const joined = [
    ...(options.hostUsers ? [] : [`--user=${SHIM_DIR}/userns`]),
    ...(options.uts ? [`--uts=${SHIM_DIR}/utsns`] : []),
    ...(options.hostUsers ? [] : AS_ROOT),
  ];
  const init = options.init === undefined ? [] : [`${SHIM_DIR}/init`, '--'];
  return [
    ...program('nsenter', ...joined, ...(options.cwd ? [`--wdns=${process.cwd}`] : []), '--'),
    ...(process.terminal ? program('setsid', '--ctty') : []),
    ...setprivArgv(process, options.seccomp ?? false),
    ...(late.length > 0 ? [...program('env', '--'), ...late] : []),
    ...lastProgram(process, late.length > 0, init),
    ...init,
    ...process.args,
  ];
}

/**
 * argv after nsenter has joined all namespaces of a running container (src/exec.ts, health.ts): as shimArgv(), but with the
 * whole environment and the directory set at the end, since no unit does that here.
 */
export function execArgv(process: Process, seccomp: boolean): string[] {
  return [
    ...(process.terminal ? program('setsid', '--ctty', '--wait') : []),
    ...setprivArgv(process, seccomp),
    ...program('env', '-i', `--chdir=${process.cwd}`, '--'),
    ...process.env,
    ...lastProgram(process, true),
    ...process.args,
  ];
}

/** argv of a program that does nothing and says nothing. */
export function nothingArgv(): string[] {
  return [...LOADER.slice(0, 1), '--verify', `${SHIM_DIR}/env`];
}

/**
 * argv that copies what is in a fifo, as much as one can hold (pipe(7), pipe-max-size), and does not wait for more: it
 * ends with an error that is none. The shell does not see the container's environment; `hostUsers`: nor has it a right
 * of the host's root, who it is then.
 */
export function drainArgv(path: string, hostUsers: boolean): string[] {
  const input = [`if=${path}`, 'iflag=nonblock,count_bytes', 'bs=64K', 'count=1M'];
  return [
    ...(hostUsers ? program('setpriv', '--inh-caps=-all', '--bounding-set=-all', '--') : []),
    ...program('env', '-i'),
    ...program('sh', '-c', 'exec "$@" 2>/dev/null', 'sh'),
    ...program('dd', ...input, 'status=none'),
  ];
}

/**
 * Words of nsenter(1) after --target. Root of the container's user namespace comes last: the others belong to it or to the
 * host. `hostUsers`: there is none. `mountNamespace`: a path that leads to one which was seen to belong to the host. In one
 * that the payload made, anything may lie at SHIM_DIR, and it would have all capabilities.
 */
export function joinAll(mountNamespace: string, hostUsers: boolean): string[] {
  return [
    ...[`--mount=${mountNamespace}`, '--uts', '--ipc', '--net', '--pid', '--cgroup'],
    ...(hostUsers ? [] : ['--user', ...AS_ROOT]),
    '--wdns=/',
  ];
}

/** Variables that go into the unit's Environment=. */
export function unitEnvironment(process: Process): string[] {
  return process.env.filter(fitsUnit);
}

/** systemd takes `[A-Za-z_][A-Za-z0-9_]*=` and no control character but tab and line break. */
function fitsUnit(entry: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*=[^\x00-\x08\x0b-\x1f\x7f]*$/.test(entry) && !STEERING.test(entry);
}

/** Variables by which libc loads or opens files wherever they say, or changes how memory is laid out. */
const STEERING = /^(LD_\w*|GLIBC_TUNABLES|MALLOC_\w*|GCONV_PATH|LOCPATH|NLSPATH|LANGUAGE)=/;

/** Becomes the user, with exactly its groups and capabilities. */
function setprivArgv(process: Process, seccomp: boolean): string[] {
  const { user } = process;
  const groups = user.additionalGids ?? [];
  return program(
    'setpriv',
    '--reuid',
    String(user.uid),
    '--regid',
    String(user.gid),
    ...(groups.length > 0 ? ['--groups', groups.join(',')] : ['--clear-groups']),
    ...(process.capabilities === undefined ? ['--inh-caps=-all'] : capabilityArgs(process.capabilities)),
    ...labelArgs(process),
    ...(process.noNewPrivileges ? ['--no-new-privs'] : []),
    ...(seccomp ? ['--seccomp-filter', SECCOMP_FILTER] : []),
    '--',
  );
}

/**
 * Who executes the command. Not env where it would take the command for a variable; and not the setpriv that became the
 * user, which has all its capabilities until then: whether it may must not be judged by them.
 */
function lastProgram(process: Process, afterEnv: boolean, init: readonly string[] = []): string[] {
  const isFine = afterEnv ? !(init[0] ?? process.args[0] ?? '').includes('=') : overridesModes(process);
  return isFine ? [] : program('setpriv', '--');
}

function overridesModes({ user, capabilities }: Process): boolean {
  return user.uid === 0 && capabilities !== undefined && capabilities.bounding.includes('CAP_DAC_OVERRIDE');
}

function program(name: string, ...args: string[]): string[] {
  return [...LOADER, `${SHIM_DIR}/${name}`, ...args];
}

/**
 * Bounding, inheritable and ambient sets. Effective and permitted are what the kernel makes of them at execve(2)
 * (capabilities(7)), under this runtime as under any other. What is not inheritable cannot be ambient.
 */
function capabilityArgs({ bounding, inheritable, ambient }: Capabilities): string[] {
  const kept = inheritable.filter((name) => bounding.includes(name));
  const raised = ambient.filter((name) => kept.includes(name));
  return [
    `--bounding-set=${capabilityList(bounding)}`,
    `--inh-caps=${capabilityList(kept)}`,
    ...(raised.length > 0 ? [`--ambient-caps=${capabilityList(raised)}`] : []),
  ];
}

/** `CAP_CHOWN` → `-all,+chown`. */
export function capabilityList(names: readonly string[]): string {
  const unknown = names.find((name) => !CAPABILITIES.includes(name));
  if (unknown !== undefined)
    throw refusal(
      'process.capabilities',
      `${quote(unknown)} is no capability`,
      'Use names of capabilities(7).',
    );
  return ['-all', ...names.map((name) => `+${name.replace(/^CAP_/, '').toLowerCase()}`)].join(',');
}

/** setpriv fails where the host does not have the security module, and where the label is unknown. */
function labelArgs(process: Process): string[] {
  return [
    ...(process.apparmorProfile ? ['--apparmor-profile', process.apparmorProfile] : []),
    ...(process.selinuxLabel ? ['--selinux-label', process.selinuxLabel] : []),
  ];
}
