/** ocictl du, gc, fsck: how large the store is, what of it nobody needs, and whether it is sound. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { OciError, quote } from '../oci/errors.ts';
import type { Mended } from '../repair-outcomes.ts';
import { interruptSignal } from './interrupt.ts';
import { outputFor } from './main.ts';
import {
  accessOptions,
  type CommonOptions,
  openStoreFromOptions,
  type RegistryOptions,
  sourceOptionsFrom,
  waitingFrom,
} from './options.ts';
import { humanBytes, shortDigest } from './output.ts';

export function storeCommands(program: Command): void {
  program
    .command('du [image...]')
    .description('show how much of the disk images take')
    .action((names: string[], _options: unknown, command: Command) => du(names, command));
  program
    .command('gc')
    .description('remove images without names, layers without images, and what crashes left')
    .option('--dry-run', 'only print what would be removed')
    .addOption(
      new Option('--grace <time>', 'how long an image stays without a name, a download to be resumed')
        .argParser(parseDuration)
        .default(GRACE_DEFAULT_MS, '1h'),
    )
    .action((_options: unknown, command: Command) => gc(command));
  accessOptions(
    program
      .command('fsck [image...]')
      .description('check every layer, image and name')
      .option('--repair', 'fetch damaged layers again, and mend what can be mended'),
  ).action((names: string[], _options: unknown, command: Command) => fsck(names, command));
}

const GRACE_DEFAULT_MS = 3600_000;
const UNIT_MS: Record<string, number> = {
  '': 1000,
  ms: 1,
  s: 1000,
  sec: 1000,
  m: 60_000,
  min: 60_000,
  h: 3600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** `90`, `30min`, `1h 30min`, `2d` → milliseconds: time spans as in systemd.time(7). */
export function parseDuration(text: string): number {
  let sum = 0;
  const rest = text.replace(/\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*/gy, (_, number: string, unit: string) => {
    sum += Number(number) * (UNIT_MS[unit] ?? Number.NaN);
    return '';
  });
  if (text.trim() === '' || rest !== '' || !Number.isFinite(sum))
    throw new InvalidArgumentError('Write a time like 90s, 30min, 1h or 2d.');
  return Math.round(sum);
}

/** The digests of the images that were named; undefined for none, which means all. */
async function open(names: readonly string[], command: Command) {
  const options = command.optsWithGlobals<CommonOptions>();
  const { requireStoredImage } = await import('../find-image.ts');
  const { store, places } = await openStoreFromOptions(options);
  const digests = names.map((name) => {
    const image = requireStoredImage(store, name);
    if (image.store === store?.root) return image.digest;
    throw new OciError('USAGE', `${quote(name)} is in the additional store ${quote(image.store)}`, {
      hint: `Look there: ocictl --root ${image.store} ${command.name()} ${name}`,
    });
  });
  return { options, store, places, digests: names.length === 0 ? undefined : digests };
}

async function du(names: readonly string[], command: Command): Promise<void> {
  const output = outputFor(command);
  const { store, digests } = await open(names, command);
  const usage = store?.usage(digests) ?? EMPTY_STORE;
  if (output.json) {
    output.value(usage);
    return;
  }
  const rows = usage.images.map(({ digest, names: tags, sharedBytes, uniqueBytes, totalBytes }) => [
    tags[0] ?? '<none>',
    shortDigest(digest),
    humanBytes(sharedBytes),
    humanBytes(uniqueBytes),
    humanBytes(totalBytes),
  ]);
  output.table(['NAME', 'DIGEST', 'SHARED', 'UNIQUE', 'TOTAL'], rows);
  if (digests !== undefined || output.quiet) return;
  output.line('');
  output.facts([
    ['Layers', humanBytes(usage.layersBytes)],
    ['Layers without an image', humanBytes(usage.unusedBytes)],
    ['Work in progress', humanBytes(usage.stagingBytes)],
    ['Written by containers', humanBytes(usage.writableBytes)],
    ['The whole store', humanBytes(usage.totalBytes)],
  ]);
}

const EMPTY_STORE = {
  images: [],
  layersBytes: 0,
  unusedBytes: 0,
  stagingBytes: 0,
  writableBytes: 0,
  totalBytes: 0,
};

async function gc(command: Command): Promise<void> {
  const output = outputFor(command);
  const options = command.optsWithGlobals<CommonOptions & { dryRun?: boolean; grace: number }>();
  const { dryRun = false, grace: graceMs } = options;
  const { store, places } = await openStoreFromOptions(options);
  const { collectGarbage } = await import('../gc.ts');
  const waiting = waitingFrom(options, output);
  const garbage =
    store === undefined
      ? []
      : await collectGarbage(store, { runRoot: places.runRoot, graceMs, dryRun, waiting });
  const removed = garbage.filter(({ error }) => error === undefined);
  const freedBytes = removed.reduce((sum, { bytes }) => sum + bytes, 0);
  if (removed.length < garbage.length) process.exitCode = 74;
  for (const { kind, name, error } of garbage)
    if (error !== undefined) output.note(`the ${kind} ${name} is still there: ${error}`);
  if (output.json) {
    output.value({ dryRun, removed, failed: garbage.filter(({ error }) => error !== undefined), freedBytes });
    return;
  }
  for (const { kind, name, bytes } of removed) output.line(`${kind} ${name} ${humanBytes(bytes)}`);
  const freed = `${humanBytes(freedBytes)} (${freedBytes} bytes) in ${removed.length} places`;
  if (garbage.length === 0) output.note('there is nothing to remove');
  else output.note(`${dryRun ? 'would free' : 'freed'} ${freed}`);
}

async function fsck(names: readonly string[], command: Command): Promise<void> {
  const output = outputFor(command);
  const { options: common, store, places, digests } = await open(names, command);
  const options = common as CommonOptions & RegistryOptions & { repair?: boolean };
  const signal = interruptSignal();
  const { fsckStore } = await import('../fsck.ts');
  const repair = {
    runRoot: places.runRoot,
    source: await sourceOptionsFrom(options, output.note),
    signal,
    onNote: output.note,
  };
  const { layers, images, damage } =
    store === undefined
      ? { layers: 0, images: 0, damage: [] }
      : await fsckStore(
          store,
          digests,
          waitingFrom(options, output, signal),
          options.repair ? repair : undefined,
        );
  const left = damage.filter(({ repaired }) => !repaired);
  if (left.length > 0) process.exitCode = 65;
  if (output.json) {
    output.value({ layers, images, damage });
    return;
  }
  for (const one of damage) output.line(damageText(one));
  output.note(`${layers} layers of ${images} images: ${verdict(damage.length, left.length)}`);
  if (left.length > 0 && !options.repair) output.note('repair it: ocictl fsck --repair');
}

/** `layer 0123456789ab: 'usr/bin/x': content differs: repaired`. */
function damageText({ kind, name, path, problem, repaired, reason }: Mended): string {
  const what = /^[0-9a-f]{64,}$/.test(name) ? name.slice(0, 12) : quote(name);
  const end = repaired ? 'repaired' : reason === undefined ? undefined : `not repaired: ${reason}`;
  return [`${kind} ${what}`, path, problem, end].filter((part) => part !== undefined).join(': ');
}

function verdict(found: number, left: number): string {
  if (found === 0) return 'clean';
  return left === 0 ? `${found} damaged, all repaired` : `${left} damaged`;
}
