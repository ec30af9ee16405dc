/** ocictl ps, exec, logs, pause, resume, kill, wait: thin over systemd, which has the containers. */
import { spawn, spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { type Command, Option } from 'commander';
import { eachPort, formatPort } from '../bundle/network.ts';
import type { ContainerRecord } from '../containers.ts';
import { OciError, quote } from '../oci/errors.ts';
import { parseSignal, type Signal } from '../oci/signal.ts';
import type { Manager } from '../systemd/manager.ts';
import { helperName } from '../unit/unit-name.ts';
import type { CommonOptions } from './options.ts';
import { humanAge, shortDigest } from './output.ts';
import { tellTasksLimit } from './tasks-limit.ts';
import { type Context, withManager } from './with-manager.ts';

interface ExecOptions extends CommonOptions {
  user?: string;
  env?: string[];
  workdir?: string;
  interactive?: boolean;
  tty?: boolean;
}

export function containerCommands(program: Command): void {
  const each = (value: string, previous: string[] = []) => [...previous, value];
  program
    .command('ps')
    .description('list the containers')
    .addOption(new Option('-a, --all', 'one that has ended is gone').hideHelp())
    .action(withManager(ps));
  program
    .command('port <unit> [port]')
    .description('list the published ports of a container, or where one of them is')
    .action(withManager(port));
  program
    .command('exec <unit> <command...>')
    .description('run a further command in a container')
    .option('-u, --user <user[:group]>', "as this user of the image (default: the container's)")
    .option('-e, --env <name=value>', 'set an environment variable', each)
    .option('-w, --workdir <dir>', "working directory (default: the container's)")
    .option('-i, --interactive', 'pass standard input on (always done, unless it is a terminal)')
    .option('-t, --tty', 'give the command a terminal')
    .action(withManager(exec));
  program
    .command('logs <unit>')
    .description("print the container's lines of the journal")
    .option('-f, --follow', 'go on with new lines')
    .option('-n, --lines <n>', 'only the last lines')
    .addOption(new Option('--tail <n>', 'the same').hideHelp())
    .option('--since <time>', 'only lines since that time, as journalctl takes it')
    .option('--until <time>', 'only lines until that time')
    .action(logs);
  const simple = (
    name: string,
    description: string,
    action: (manager: Manager, container: ContainerRecord) => Promise<void>,
  ) =>
    program
      .command(`${name} <unit...>`)
      .description(description)
      .action(withManager((context, units: string[]) => forEachUnit(context, units, action)));
  simple('pause', 'freeze all processes of a container', async (manager, container) => {
    const { pauseContainer } = await import('../pause.ts');
    await pauseContainer(container, manager);
  });
  simple('resume', 'let a paused container go on', async (manager, container) => {
    const { resumeContainer } = await import('../pause.ts');
    await resumeContainer(container, manager);
  });
  program
    .command('kill <unit...>')
    .description("send a signal to the container's main process")
    .option('-s, --signal <signal>', 'which one', 'SIGKILL')
    .action(withManager(kill));
  program
    .command('wait <unit>')
    .description("wait for a container's end and print its exit status")
    .action(withManager(wait));
}

async function ps({ output, runRoot, manager }: Context<CommonOptions>): Promise<void> {
  const { containerState, listContainers } = await import('../containers.ts');
  const states = await Promise.all(
    listContainers(runRoot).map((container) => containerState(container, manager)),
  );
  if (output.json) return output.value(states);
  if (output.quiet) {
    for (const { unit } of states) output.line(unit);
    return;
  }
  output.table(
    ['UNIT', 'IMAGE', 'DIGEST', 'STATE', 'HEALTH', 'PID', 'STARTED', 'PORTS', 'COMMAND'],
    states.map(({ unit, image, digest, state, health, pid, started, ports, command }) => [
      unit,
      image,
      shortDigest(digest),
      state,
      health?.status ?? '',
      pid === 0 ? '' : String(pid),
      started === undefined ? '' : humanAge(started),
      ports.map(formatPort).join(', '),
      shortened(command.join(' ')),
    ]),
  );
}

const COMMAND_MAX_CHARS = 40;

function shortened(text: string): string {
  const chars = [...text];
  return chars.length <= COMMAND_MAX_CHARS ? text : `${chars.slice(0, COMMAND_MAX_CHARS - 1).join('')}…`;
}

async function port(
  { output, runRoot }: Context<CommonOptions>,
  name: string,
  wanted: string | undefined,
): Promise<void> {
  const { requireContainer } = await import('../containers.ts');
  const { unit, network } = requireContainer(runRoot, name);
  const full = wanted === undefined || wanted.includes('/') ? wanted : `${wanted}/tcp`;
  const ports = network.ports.flatMap(eachPort).filter(([inside]) => full === undefined || inside === full);
  if (full !== undefined && ports.length === 0)
    throw new OciError('INPUT_NOT_FOUND', `container ${quote(unit)} publishes no port ${quote(full)}`, {
      hint: `List them with: ocictl port ${unit}.`,
    });
  if (output.json) return output.value(ports.map(([container, host]) => ({ container, host })));
  for (const [inside, host] of ports) output.line(full === undefined ? `${inside} -> ${host}` : host);
}

async function exec(
  { options, runRoot, manager }: Context<ExecOptions>,
  unit: string,
  command: string[],
): Promise<void> {
  const [{ requireContainer, requirePid }, { execInContainer, execProcess }] = await Promise.all([
    import('../containers.ts'),
    import('../exec.ts'),
  ]);
  const container = requireContainer(runRoot, unit);
  if (options.workdir !== undefined && !options.workdir.startsWith('/'))
    throw new OciError('USAGE', `--workdir: ${quote(options.workdir)} is not an absolute path`, {
      hint: 'Write it as --workdir /DIR.',
    });
  const pid = await requirePid(container, manager, 'refused'); // who joins its cgroup is paused too
  const process_ = execProcess(container, pid, {
    args: command,
    env: options.env ?? [],
    callerEnv: process.env,
    terminal: options.tty === true,
    ...(options.user === undefined ? {} : { user: options.user }),
    ...(options.workdir === undefined ? {} : { cwd: options.workdir }),
  });
  const input = options.interactive === true;
  if (!options.tty) {
    process.exitCode = await execInContainer(container, pid, process_, manager, input);
    return;
  }
  const { openTerminal } = await import('../host/terminal.ts');
  const terminal = openTerminal(`${runRoot}/containers/${container.unit}/mnt/dev/pts`, process_.user);
  for (const signal of ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const)
    process.on(signal, () => {
      terminal.close();
      process.exit(128 + constants.signals[signal]);
    });
  process.exitCode = await execInContainer(container, pid, process_, manager, input, terminal);
}

interface LogsOptions {
  follow?: boolean;
  lines?: string;
  tail?: string;
  since?: string;
  until?: string;
}

async function logs(unit: string, { follow, lines, tail = lines, since, until }: LogsOptions): Promise<void> {
  if (tail !== undefined && !/^(\d{1,9}|all)$/.test(tail))
    throw new OciError('USAGE', `--lines: ${quote(tail)} is not a number of lines`, {
      hint: 'Write it as --lines 100.',
    });
  const name = unit.replace(/\.service$/, '');
  // the payload's lines and those of the relay; systemd's own about the unit bear the same OCI_UNIT=
  const all = `OCI_UNIT=${name}.service`;
  requireLines(name, all);
  const [own, relay] = [`_SYSTEMD_UNIT=${name}.service`, `_SYSTEMD_UNIT=${helperName(name, 'log')}.service`];
  const args = ['--no-pager', '--output=cat', all, own, '+', all, relay];
  if (follow) args.push('--follow');
  if (tail !== undefined) args.push(`--lines=${tail}`);
  for (const [option, time] of [['--since', since] as const, ['--until', until] as const])
    if (time !== undefined) args.push(`${option}=${requireTime(option, time)}`);
  const child = spawn('journalctl', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  process.exitCode = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve(status ?? 128 + constants.signals[signal!]));
  });
}

/** Throws INPUT_NOT_FOUND where the journal never had any. */
function requireLines(name: string, all: string): void {
  const any = spawnSync('journalctl', ['--quiet', '--lines=1', '--output=cat', all], { encoding: 'utf8' });
  if (any.status === 0 && any.stdout === '')
    throw new OciError('INPUT_NOT_FOUND', `the journal has no lines of a container ${quote(name)}`, {
      hint: 'List the containers with: ocictl ps.',
    });
}

/** For journalctl, a span of time as podman takes it, 10m, too. Throws USAGE for what it would not understand. */
function requireTime(option: string, text: string): string {
  const time = text.replace(/^(?=(\d+(\.\d+)?(ms|s|m|h))+$)/, '-').replace(/^(?=\d{9,10}$)/, '@');
  const args = ['--quiet', '--lines=0', `${option}=${time}`];
  if (!spawnSync('journalctl', args, { encoding: 'utf8' }).stderr.includes('timestamp')) return time;
  throw new OciError('USAGE', `${option}: ${quote(text)} is no time`, {
    hint: `Write it as ${option} 10m, ${option} 14:30 or ${option} yesterday: see systemd.time(7).`,
  });
}

async function forEachUnit(
  { runRoot, manager }: Context<CommonOptions>,
  units: string[],
  action: (manager: Manager, container: ContainerRecord) => Promise<void>,
): Promise<void> {
  const { requireContainer } = await import('../containers.ts');
  const containers = units.map((unit) => requireContainer(runRoot, unit));
  for (const container of containers) await action(manager, container);
}

async function kill(context: Context<CommonOptions & { signal: string }>, units: string[]): Promise<void> {
  const { number } = parseSignalOption(context.options.signal);
  await forEachUnit(context, units, (manager, { unit }) => manager.kill(`${unit}.service`, number));
}

function parseSignalOption(text: string): Signal {
  try {
    return parseSignal(text);
  } catch {
    throw new OciError('USAGE', `--signal: ${quote(text)} is not a signal`, {
      hint: 'Use a name or a number of signal(7), as SIGHUP.',
    });
  }
}

async function wait({ output, runRoot, manager }: Context<CommonOptions>, name: string): Promise<void> {
  const [{ requireContainer }, { endInWords }] = await Promise.all([
    import('../containers.ts'),
    import('../unit/end.ts'),
  ]);
  const { unit, spec } = requireContainer(runRoot, name);
  await manager.hold(`${unit}.service`);
  tellTasksLimit(unit, manager, output.note);
  const end = await manager.waitForEnd(`${unit}.service`);
  const why = endInWords(end, spec);
  if (output.json) output.value({ unit, status: end.status, result: end.result, why });
  else output.line(String(end.status));
  if (why !== undefined) output.note(`${unit}: ${why}`);
}
