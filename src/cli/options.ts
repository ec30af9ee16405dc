/**
 * Options that several programs share, and what follows from them (docs: cli.md). Defaults come from oci.conf, then
 * from the user: root has /var/lib/oci and /run/oci, others their XDG directories.
 */

import { existsSync, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Waiting } from '../host/lock.ts';
import type { TrustPolicy } from '../image-signatures.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { SourceOptions } from '../source/open-source.ts';
import type { StoreFormat } from '../store/layout.ts';
import type { Store } from '../store/store.ts';
import { loadOciConf } from './config.ts';
import type { Networks } from './network-conf.ts';
import type { Output } from './output.ts';

export interface CommonOptions {
  readonly root?: string;
  readonly runRoot?: string;
  readonly config?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  /** false after --no-wait. */
  readonly wait?: boolean;
}

export interface RegistryOptions {
  readonly platform?: string;
  readonly authfile?: string;
  readonly creds?: string;
  readonly certDir?: string;
  readonly tlsVerify?: boolean;
  readonly plainHttp?: boolean;
  readonly jobs?: number;
}

const KEEP_DEFAULT = 2;

export interface Places {
  readonly root: string;
  readonly runRoot: string;
  readonly additionalStores: readonly string[];
  /** Old versions of an installed service that stay. */
  readonly keep: number;
  /** Of images that are pulled. */
  readonly storeFormat: StoreFormat;
  readonly networks: Networks;
  readonly trust: TrustPolicy;
}

/** The options that every program has. */
export function commonOptions(command: Command): Command {
  return everywhereOptions(command, '-v, --verbose').option(
    '--no-wait',
    'fail instead of waiting for another process',
  );
}

/** The same for oci-run, which has other uses for -v and for waiting. */
export function commonRunOptions(command: Command): Command {
  return everywhereOptions(command, '--verbose');
}

function everywhereOptions(command: Command, verboseFlags: string): Command {
  return command
    .option('--root <dir>', 'directory of the store (default: /var/lib/oci)')
    .option('--run-root <dir>', 'directory of mounts and running containers (default: /run/oci)')
    .option('--config <file>', 'read this oci.conf only')
    .option('--json', 'print results and errors as JSON')
    .option('-q, --quiet', 'print results and errors only')
    .option(verboseFlags, 'print more about errors');
}

/** What concerns getting an image. */
export function registryOptions(command: Command): Command {
  command.option('--platform <os/arch[/variant]>', 'get the image for this platform');
  return accessOptions(command).addOption(
    new Option('--jobs <n>', 'downloads at a time').argParser(parseJobs),
  );
}

/** How to get at a registry. */
export function accessOptions(command: Command): Command {
  authfileOption(command, 'read credentials from this file only');
  command.option('--creds <user[:password]>', 'credentials for the registry; without a password, ask for it');
  return tlsOptions(command).option('--plain-http', 'use http instead of https');
}

export function authfileOption(command: Command, description: string): Command {
  return command.option('--authfile <file>', description);
}

/** How a registry is trusted. */
export function tlsOptions(command: Command): Command {
  return command
    .option('--cert-dir <dir>', 'directory with *.crt, *.cert and *.key for the registry')
    .addOption(
      new Option('--tls-verify <boolean>', 'verify certificates; false also allows plain http').argParser(
        parseBoolean,
      ),
    );
}

function parseBoolean(text: string): boolean {
  if (['true', '1', 'yes'].includes(text)) return true;
  if (['false', '0', 'no'].includes(text)) return false;
  throw new InvalidArgumentError('Write true or false.');
}

const JOBS_MAX = 32;

function parseJobs(text: string): number {
  const jobs = Number(text);
  if (Number.isInteger(jobs) && jobs >= 1 && jobs <= JOBS_MAX) return jobs;
  throw new InvalidArgumentError(`Write a number from 1 to ${JOBS_MAX}.`);
}

export async function placesFrom(
  options: CommonOptions,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Places> {
  const conf = await loadOciConf({ file: options.config, env });
  const isRoot = process.geteuid!() === 0;
  const home = env['HOME'] || homedir();
  const userRoot = () => join(env['XDG_DATA_HOME'] || join(home, '.local/share'), 'oci');
  const userRunRoot = () => join(env['XDG_RUNTIME_DIR'] || `/run/user/${process.geteuid!()}`, 'oci');
  return {
    root: directoryAt('--root', options.root ?? conf.root ?? (isRoot ? '/var/lib/oci' : userRoot())),
    runRoot: directoryAt(
      '--run-root',
      options.runRoot ?? conf.runRoot ?? (isRoot ? '/run/oci' : userRunRoot()),
    ),
    additionalStores: conf.additionalStores ?? [],
    keep: conf.keep ?? KEEP_DEFAULT,
    storeFormat: conf.storeFormat ?? 'tree',
    networks: conf.networks ?? {},
    trust: { keys: [], requireSignature: false, ...conf.trust },
  };
}

/** Throws CONFIG for what can never become a directory of ours. */
function directoryAt(option: string, text: string): string {
  const path = resolve(text);
  let there = path;
  while (!existsSync(there)) there = dirname(there);
  const real = realpathSync(there);
  const why =
    text === ''
      ? 'it is empty'
      : !statSync(real).isDirectory()
        ? `${there === path ? 'it' : quote(there)} is not a directory`
        : // the kernel makes no directories there, and mkdir() of Node.js then tries for ever
          /^\/(proc|sys)(\/|$)/.test(real)
          ? 'the files there are the kernel’s'
          : undefined;
  if (why === undefined) return path;
  throw new OciError('CONFIG', `${option}: refusing ${quote(text)}: ${why}`, {
    hint: `Name another directory with ${option}.`,
  });
}

export interface StoreFormatOptions {
  readonly storeFormat?: StoreFormat;
}

export function storeFormatOption(): Option {
  return new Option(
    '--store-format <format>',
    'store the image as tree or composefs, when it is not here (default: tree)',
  ).choices(['tree', 'composefs']);
}

/** The format for images that are pulled. */
export function storeFormatFrom(
  { storeFormat }: StoreFormatOptions,
  places: Places,
): { format: StoreFormat } {
  return { format: storeFormat ?? places.storeFormat };
}

/** Tells who asked for a format that the image is here in the other one. */
export function noteStoreFormat(
  { storeFormat }: StoreFormatOptions,
  { image, name }: { image: { format: StoreFormat }; name: string },
  note: (message: string) => void,
): void {
  if (storeFormat !== undefined && image.format !== storeFormat)
    note(
      `the image is here in format ${image.format}; to change that: ocictl convert --to ${storeFormat} ${name}`,
    );
}

/** The store as it is; undefined where there is none yet. */
export async function openStoreFromOptions(
  options: CommonOptions,
): Promise<{ store: Store | undefined; places: Places }> {
  const { openStore } = await import('../store/store.ts');
  const places = await placesFrom(options);
  return { store: openStore({ root: places.root, additional: places.additionalStores }), places };
}

/** The store, made where there is none yet. */
export async function createStoreFromOptions(
  options: CommonOptions,
): Promise<{ store: Store; places: Places }> {
  if (process.geteuid!() !== 0)
    throw new OciError('DENIED', 'only root can store images: their files belong to many users', {
      hint: 'Run the command with sudo.',
    });
  const { openStore } = await import('../store/store.ts');
  const places = await placesFrom(options);
  const { root, additionalStores: additional } = places;
  return { store: openStore({ root, create: true, additional })!, places };
}

/** How to wait for locks, and whom to tell. */
export function waitingFrom(options: CommonOptions, output: Output, signal?: AbortSignal): Waiting {
  return {
    wait: options.wait !== false,
    onWait: (message) => output.note(message),
    ...(signal === undefined ? {} : { signal }),
  };
}

/** May ask on the terminal for the password of --creds. */
export async function sourceOptionsFrom(
  options: RegistryOptions,
  notice: (message: string) => void,
): Promise<SourceOptions> {
  const { creds } = options;
  return {
    ...(options.authfile === undefined ? {} : { authfile: options.authfile }),
    ...(creds === undefined ? {} : { creds: creds.includes(':') ? creds : await withPassword(creds) }),
    ...(options.certDir === undefined ? {} : { certDir: options.certDir }),
    ...(options.tlsVerify === undefined ? {} : { tlsVerify: options.tlsVerify }),
    ...(options.plainHttp === undefined ? {} : { plainHttp: options.plainHttp }),
    notice,
  };
}

async function withPassword(user: string): Promise<string> {
  const { askSecret, hasTerminal } = await import('./prompt.ts');
  if (!hasTerminal())
    throw new OciError('USAGE', '--creds has no password, and there is no terminal to ask for it', {
      hint: 'Write it as --creds USER:PASSWORD, or run: ocictl login',
    });
  return `${user}:${await askSecret(`Password of ${user}: `)}`;
}
