/**
 * ocictl import: services of Quadlet files; ocictl(1). src/quadlet/ turns a file into words of `ocictl install`; here
 * files are read, the words judged by install itself, and what they say is done.
 *
 * Invariant: nothing is changed before every file is understood, or --best-effort was given.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import { type Command, CommanderError } from 'commander';
import { CONTROL_CHARACTERS, escapeControl, OciError, quote, toOciError } from '../oci/errors.ts';
import type { ContainerImport } from '../quadlet/container.ts';
import type { Complaint, Part } from '../quadlet/outcome.ts';
import type { QuadletFile } from '../quadlet/quadlet-file.ts';
import type { ImageImport } from '../quadlet/resources.ts';
import { findOrPull } from './image-container.ts';
import { type NetworkFile, networkFiles, writeNetworkFile } from './import-network.ts';
import { type InstallWords, installService, parseInstall } from './install-command.ts';
import { outputFor } from './main.ts';
import { type CommonOptions, createStoreFromOptions } from './options.ts';
import { type Output, unicodeEscape } from './output.ts';

interface ImportOptions extends CommonOptions {
  bestEffort?: boolean;
  dryRun?: boolean;
  now?: boolean;
}

export function importCommand(program: Command): void {
  program
    .command('import <file...>')
    .description('install the services of Quadlet files')
    .option('--best-effort', 'leave out what cannot be honoured')
    .option('--dry-run', 'only print what would be done')
    .option('--now', 'start them')
    .action(importFiles);
}

/** What is to be done. */
interface Plan {
  readonly networks: readonly NetworkFile[];
  readonly services: readonly (readonly string[])[];
  /** Those that no container names. */
  readonly images: readonly (readonly string[])[];
  /** FILE:LINE: KEY: REASON. */
  readonly complaints: readonly string[];
}

async function importFiles(paths: string[], _: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<ImportOptions>();
  const output = outputFor(command);
  const plan = await planFor(await readFiles(paths), options);
  const { complaints } = plan;
  if (!output.json) for (const complaint of complaints) output.warning(complaint);
  if (complaints.length > 0 && !options.bestEffort)
    throw new OciError(
      'BAD_UNIT_FILE',
      `nothing was imported: ${complaints.length} ${complaints.length === 1 ? 'line' : 'lines'} cannot be honoured`,
      {
        hint: 'Change the files, or leave these lines out with --best-effort.',
        detail: complaints.join('\n'),
      },
    );
  if (options.dryRun) return printPlan(plan, output);
  const units = await carryOut(plan, options, output);
  if (output.json)
    output.value({ units, networks: plan.networks.map(({ name }) => name), leftOut: complaints });
  else {
    for (const unit of units) output.line(unit);
    const templates = units.filter(isOfTemplate);
    const others = units.filter((unit) => !isOfTemplate(unit));
    if (!options.now && others.length > 0)
      output.note(`start them with systemctl restart ${others.join(' ')}`);
    for (const unit of templates)
      output.note(`start instances with systemctl enable --now ${unit.replace('@.', '@INSTANCE.')}`);
  }
}

function isOfTemplate(unit: string): boolean {
  return unit.includes('@.');
}

async function carryOut(plan: Plan, options: ImportOptions, output: Output): Promise<string[]> {
  for (const network of plan.networks) writeNetworkFile(network);
  if (plan.images.length > 0) {
    const { store } = await createStoreFromOptions(options);
    for (const words of plan.images) {
      const { image, options: access } = parseInstall(words);
      await findOrPull(image, store, access, output);
    }
  }
  const units: string[] = [];
  for (const words of plan.services) {
    const parsed = parseInstall(words);
    const { unit } = await installService(withPlaces(parsed, options), output);
    units.push(unit);
  }
  // together: they may wait for each other
  const startable = units.filter((unit) => !isOfTemplate(unit));
  if (options.now && startable.length > 0) {
    const { systemctl } = await import('../systemd/systemctl.ts');
    systemctl('restart', ...startable);
  }
  return units;
}

function withPlaces(parsed: InstallWords, { root, runRoot, config }: CommonOptions): InstallWords {
  const places = {
    ...(root === undefined ? {} : { root }),
    ...(runRoot === undefined ? {} : { runRoot }),
    ...(config === undefined ? {} : { config }),
  };
  return { ...parsed, options: { ...parsed.options, ...places } };
}

function printPlan({ networks, images, services }: Plan, output: Output): void {
  const lines = [
    ...images.map((words) =>
      shellWords(['oci-pull', ...words.slice(1).map((word) => word.replace(/^--pull=/, '--policy='))]),
    ),
    ...services.map((words) => shellWords(['ocictl', 'install', ...words])),
  ];
  if (output.json) output.value({ networks, commands: lines });
  else {
    for (const { path, text } of networks) output.lines(`# ${path}\n${text}`);
    for (const line of lines) output.line(line);
  }
}

async function planFor(files: readonly QuadletFile[], options: CommonOptions): Promise<Plan> {
  const [{ translateContainer }, { translateImage, translateNetwork, translateVolume }] = await Promise.all([
    import('../quadlet/container.ts'),
    import('../quadlet/resources.ts'),
  ]);
  const complaints: string[] = [];
  const complain = ({ path }: QuadletFile, list: readonly Complaint[]) => {
    for (const { line, key, reason } of list.toSorted((a, b) => a.line - b.line))
      complaints.push(`${path}:${line}: ${key.slice(0, KEY_MAX_CHARS)}: ${reason}`);
  };
  const ofKind = (kind: QuadletFile['kind']) => files.filter((file) => file.kind === kind);

  for (const file of ofKind('volume')) complain(file, translateVolume(file).complaints);
  const networks = ofKind('network').map((file) => ({ file, network: translateNetwork(file) }));
  for (const { file, network } of networks) complain(file, network.complaints);
  const images = new Map<string, ImageImport>();
  for (const file of ofKind('image')) {
    const image = translateImage(file);
    const { accepted, complaints: judged } = judge(image.parts);
    complain(file, [...image.complaints, ...judged]);
    if (image.image !== '') images.set(file.file, { ...image, parts: accepted });
  }
  const named = new Set<string>();
  const services = new Map<string, string[]>();
  for (const file of ofKind('container')) {
    const container = translateContainer(file, files, { hostName: hostname(), credentialFile });
    const image = imageFor(container, images, file, named);
    const { accepted, complaints: judged } = judge(container.parts, container.name);
    complain(file, [...container.complaints, ...judged]);
    const options = [...image.parts, ...accepted].flatMap(({ words }) => words);
    const words = [`--name=${container.name}`, ...options, '--', image.image, ...container.command];
    parseInstall(words);
    if (services.has(container.name))
      throw new OciError('USAGE', `there are two files of a service ${quote(container.name)}`, {
        hint: 'Give one of them another ServiceName=.',
      });
    services.set(container.name, words);
  }
  return {
    networks: await networkFiles(networks, options),
    services: [...services.values()],
    images: [...images]
      .filter(([file]) => !named.has(file))
      .map(([, { image, parts }]) => ['--name=x', ...parts.flatMap(({ words }) => words), '--', image]),
    complaints,
  };
}

const KEY_MAX_CHARS = 60;

/** Where systemd.exec(5) has credentials of the system looked for; what is not encrypted goes first. */
function credentialFile(name: string): { path: string; encrypted: boolean } | undefined {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name)) return undefined;
  for (const encrypted of [false, true])
    for (const directory of ['/etc', '/run', '/usr/local/lib', '/usr/lib']) {
      const path = `${directory}/credstore${encrypted ? '.encrypted' : ''}/${name}`;
      if (existsSync(path)) return { path, encrypted };
    }
  return undefined;
}

function imageFor(
  { image }: ContainerImport,
  images: ReadonlyMap<string, ImageImport>,
  { path }: QuadletFile,
  named: Set<string>,
): { image: string; parts: readonly Part[] } {
  if (!/\.(image|build)$/.test(image)) return { image, parts: [] };
  const found = images.get(image);
  if (found === undefined)
    throw new OciError('BAD_UNIT_FILE', `${quote(path)}: image ${quote(image)} is not among the files`, {
      hint: 'Name its .image file too.',
    });
  named.add(image);
  return found;
}

const PARTS_MAX = 1000;

/**
 * The parts that install takes, together. One that it does not take is tried again with those after it, which it may
 * need; what is left then is why.
 */
function judge(parts: readonly Part[], name = 'x'): { accepted: readonly Part[]; complaints: Complaint[] } {
  if (parts.length > PARTS_MAX)
    throw new OciError('BAD_UNIT_FILE', `a file asks for more than ${PARTS_MAX} options`);
  if (whyNot(parts, name) === undefined) return { accepted: parts, complaints: [] };
  const accepted: Part[] = [];
  let left = parts;
  let complaints: Complaint[] = [];
  for (let before = -1; before !== accepted.length; ) {
    before = accepted.length;
    const again: Part[] = [];
    complaints = [];
    for (const part of left) {
      const reason = whyNot([...accepted, part], name);
      if (reason === undefined) accepted.push(part);
      else {
        again.push(part);
        complaints.push({ line: part.line, key: part.key, reason });
      }
    }
    left = again;
  }
  return { accepted, complaints };
}

function whyNot(parts: readonly Part[], name: string): string | undefined {
  try {
    parseInstall([`--name=${name}`, ...parts.flatMap(({ words }) => words), '--', 'image']);
    return undefined;
  } catch (error) {
    if (error instanceof CommanderError)
      return error.message
        .replace(/^error: /, '')
        .replace(/^unknown option '(--[a-z-]+).*$/s, 'there is no option $1');
    return toOciError(error).message;
  }
}

async function readFiles(paths: readonly string[]): Promise<QuadletFile[]> {
  const [{ parseFileName }, { parseUnitText, UNIT_FILE_MAX_BYTES }] = await Promise.all([
    import('../quadlet/quadlet-file.ts'),
    import('../quadlet/unit-syntax.ts'),
  ]);
  const files = paths.map((path) => ({
    path,
    directory: dirname(resolve(path)),
    ...parseFileName(path),
    unit: parseUnitText(readText(path, UNIT_FILE_MAX_BYTES), path),
  }));
  const twice = files.find(({ file }, index) => files.findIndex((other) => other.file === file) !== index);
  if (twice !== undefined)
    throw new OciError('USAGE', `there are two files ${quote(twice.file)}`, {
      hint: 'Name each file once.',
    });
  return files;
}

/** The text of a regular file; nothing else is opened for reading. */
function readText(path: string, maxBytes: number): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    throw new OciError('INPUT_NOT_FOUND', `cannot read ${quote(path)}`, { cause: error });
  }
  try {
    const refuse = (what: string) => new OciError('BAD_UNIT_FILE', `${quote(path)} is ${what}`);
    const { size } = fstatSync(fd);
    if (!fstatSync(fd).isFile()) throw refuse('no file');
    if (size > maxBytes) throw refuse(`larger than ${maxBytes} bytes`);
    const bytes = Buffer.alloc(maxBytes);
    const text = bytes.subarray(0, readSync(fd, bytes, 0, maxBytes, 0));
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(text);
    } catch {
      throw refuse('no text in UTF-8');
    }
  } finally {
    closeSync(fd);
  }
}

/** For people to copy: what is in a file may be odd. */
function shellWords(words: readonly string[]): string {
  return words
    .map((word) => {
      if (/^[A-Za-z0-9_./:=@%+,-]+$/.test(word)) return word;
      if (escapeControl(word) === word) return `'${word.replaceAll("'", `'\\''`)}'`;
      return `$'${word.replace(/['\\]/g, '\\$&').replace(CONTROL_CHARACTERS, unicodeEscape)}'`;
    })
    .join(' ');
}
