/** ocictl ps, exec, logs, stats, pause, resume, kill, wait: thin over systemd, which has the containers. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Command } from 'commander';
import { formatPort } from '../bundle/network.ts';
import type { ContainerUsage } from '../containers.ts';
import { parseSignal } from '../oci/signal.ts';
import type { Manager } from '../systemd/manager.ts';
import { outputFor } from './main.ts';
import { type CommonOptions, placesFrom } from './options.ts';
import { humanAge, humanBytes, type Output, shortDigest } from './output.ts';

interface ExecOptions extends CommonOptions {
  user?: string;
  env?: string[];
  workdir?: string;
  interactive?: boolean;
  tty?: boolean;
}

export function containerCommands(program: Command): void {
  const each = (value: string, previous: string[] = []) => [...previous, value];
  program.command('ps').description('list the containers').action(withManager(ps));
  program
    .command('exec <unit> <command...>')
    .description('run a further command in a container')
    .option('-u, --user <user[:group]>', "as this user of the image (default: the container's)")
    .option('-e, --env <name=value>', 'set an environment variable', each)
    .option('-w, --workdir <dir>', "working directory (default: the container's)")
    .option('-i, --interactive', 'pass standard input on (always done)')
    .option('-t, --tty', 'give the command a terminal')
    .action(withManager(exec));
  program
    .command('logs <unit>')
    .description("print the container's lines of the journal")
    .option('-f, --follow', 'go on with new lines')
    .option('-n, --lines <n>', 'only the last lines')
    .option('--since <time>', 'only lines since that time, as journalctl takes it')
    .action(logs);
  program
    .command('stats [unit...]')
    .description('show what containers use; on a terminal again every second')
    .option('--no-stream', 'show it once')
    .action(withManager(stats));
  const simple = (
    name: string,
    description: string,
    action: (manager: Manager, unit: string) => Promise<void>,
  ) =>
    program
      .command(`${name} <unit...>`)
      .description(description)
      .action(withManager((context, units: string[]) => forEachUnit(context, units, action)));
  simple('pause', 'freeze all processes of a container', (manager, unit) => manager.freeze(unit));
  simple('resume', 'let a paused container go on', (manager, unit) => manager.thaw(unit));
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

/**
 * The words of `exec` after UNIT belong to the command, also those that look like options of ours: a `--` before
 * them says so to commander, whose own way would forbid `ocictl ps --json`.
 */
export function endOptionsOfExec(argv: string[]): string[] {
  const at = skipOptions(argv, 0);
  if (argv[at] !== 'exec') return argv;
  const unit = skipOptions(argv, at + 1);
  if (unit >= argv.length || argv[unit] === '--') return argv;
  return [...argv.slice(0, unit), '--', ...argv.slice(unit)];
}

/** The position of the first word from `from` on that is no option and no option's value. */
function skipOptions(argv: readonly string[], from: number): number {
  let at = from;
  while (at < argv.length && argv[at] !== '--' && argv[at]!.startsWith('-'))
    at += takesValue(argv[at]!) ? 2 : 1;
  return at;
}

function takesValue(word: string): boolean {
  return /^(-[uew]|--(user|env|workdir|root|run-root|config))$/.test(word);
}

interface Context<O> {
  readonly options: O;
  readonly output: Output;
  readonly runRoot: string;
  readonly manager: Manager;
}

/** Connects to systemd for one action; commander hands that its arguments, its options and the command. */
function withManager<O extends CommonOptions, A extends unknown[]>(
  action: (context: Context<O>, ...args: A) => Promise<void>,
) {
  return async (...given: unknown[]): Promise<void> => {
    const command = given.at(-1) as Command;
    const options = command.optsWithGlobals<O>();
    const { connectManager } = await import('../systemd/manager.ts');
    const [manager, { runRoot }] = await Promise.all([connectManager(), placesFrom(options)]);
    try {
      await action({ options, output: outputFor(command), runRoot, manager }, ...(given.slice(0, -2) as A));
    } finally {
      manager.close();
    }
  };
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
    ['UNIT', 'IMAGE', 'DIGEST', 'STATE', 'PID', 'STARTED', 'PORTS', 'COMMAND'],
    states.map(({ unit, image, digest, state, pid, started, ports, command }) => [
      unit,
      image,
      shortDigest(digest),
      state,
      pid === 0 ? '' : String(pid),
      started === undefined ? '' : humanAge(started),
      ports.map(formatPort).join(', '),
      command.join(' ').slice(0, 40),
    ]),
  );
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
  const pid = await requirePid(container, manager);
  const process_ = execProcess(container, pid, {
    args: command,
    env: options.env ?? [],
    callerEnv: process.env,
    terminal: options.tty === true,
    ...(options.user === undefined ? {} : { user: options.user }),
    ...(options.workdir === undefined ? {} : { cwd: options.workdir }),
  });
  if (!options.tty) {
    process.exitCode = await execInContainer(container, pid, process_, manager);
    return;
  }
  const { openTerminal } = await import('../host/terminal.ts');
  const terminal = openTerminal(`${runRoot}/containers/${container.unit}/mnt/dev/pts`, process_.user);
  for (const signal of ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const)
    process.on(signal, () => {
      terminal.close();
      process.exit(128 + constants.signals[signal]);
    });
  process.exitCode = await execInContainer(container, pid, process_, manager, terminal);
}

async function logs(
  unit: string,
  options: { follow?: boolean; lines?: string; since?: string },
): Promise<void> {
  const name = unit.replace(/\.service$/, '');
  // the payload's lines only: systemd's own about the unit bear the same field, but its identifier
  const args = ['--no-pager', '--output=cat', `--identifier=${name}`, `OCI_UNIT=${name}.service`];
  if (options.follow) args.push('--follow');
  if (options.lines !== undefined) args.push(`--lines=${options.lines}`);
  if (options.since !== undefined) args.push(`--since=${options.since}`);
  const child = spawn('journalctl', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  process.exitCode = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve(status ?? 128 + constants.signals[signal!]));
  });
}

async function stats(
  { options, output, runRoot, manager }: Context<CommonOptions & { stream: boolean }>,
  units: string[],
): Promise<void> {
  const { containerUsage, listContainers, requireContainer } = await import('../containers.ts');
  const wanted = () =>
    units.length === 0 ? listContainers(runRoot) : units.map((unit) => requireContainer(runRoot, unit));
  const measure = async () => ({
    at: performance.now(),
    usages: await Promise.all(wanted().map((container) => containerUsage(container, manager))),
  });
  const stream = options.stream && !output.json && process.stdout.isTTY === true;
  let before = await measure();
  do {
    await new Promise((resolve) => setTimeout(resolve, stream ? 1000 : 200));
    const now = await measure();
    const rows = now.usages.map((usage) =>
      usageRow(usage, cpuShare(usage, before.usages, now.at - before.at)),
    );
    if (output.json)
      return output.value(
        now.usages.map((usage) => ({
          ...usage,
          cpuPercent: cpuShare(usage, before.usages, now.at - before.at),
        })),
      );
    if (stream) process.stdout.write('\x1b[H\x1b[2J');
    output.table(['UNIT', 'CPU', 'MEMORY', 'LIMIT', 'TASKS', 'READ', 'WRITTEN'], rows);
    before = now;
  } while (stream);
}

/** Per cent of one CPU since the last measurement. */
function cpuShare(
  now: ContainerUsage,
  before: readonly ContainerUsage[],
  elapsedMs: number,
): number | undefined {
  const earlier = before.find(({ unit }) => unit === now.unit)?.cpuNsec;
  if (now.cpuNsec === undefined || earlier === undefined) return undefined;
  return Math.round(((now.cpuNsec - earlier) / 1e6 / elapsedMs) * 1000) / 10;
}

function usageRow(usage: ContainerUsage, cpu: number | undefined): string[] {
  const bytes = (value: number | undefined) => (value === undefined ? '-' : humanBytes(value));
  return [
    usage.unit,
    cpu === undefined ? '-' : `${cpu.toFixed(1)}%`,
    bytes(usage.memoryBytes),
    bytes(usage.memoryMaxBytes),
    usage.tasks === undefined ? '-' : String(usage.tasks),
    bytes(usage.ioReadBytes),
    bytes(usage.ioWriteBytes),
  ];
}

async function forEachUnit(
  { runRoot, manager }: Context<CommonOptions>,
  units: string[],
  action: (manager: Manager, unit: string) => Promise<void>,
): Promise<void> {
  const { requireContainer } = await import('../containers.ts');
  const containers = units.map((unit) => requireContainer(runRoot, unit));
  for (const { unit } of containers) await action(manager, `${unit}.service`);
}

async function kill(context: Context<CommonOptions & { signal: string }>, units: string[]): Promise<void> {
  const { number } = parseSignal(context.options.signal);
  await forEachUnit(context, units, (manager, unit) => manager.kill(unit, number));
}

async function wait({ output, runRoot, manager }: Context<CommonOptions>, name: string): Promise<void> {
  const { requireContainer } = await import('../containers.ts');
  const { unit } = requireContainer(runRoot, name);
  await manager.hold(`${unit}.service`);
  const end = await manager.waitForEnd(`${unit}.service`);
  if (output.json) output.value({ unit, ...end });
  else output.line(String(end.status));
}
