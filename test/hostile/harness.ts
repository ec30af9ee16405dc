/**
 * The judge of the hostile suite: pulls an image from a layout into an empty store and compares what a container would
 * see, or how the image was refused, with what the specification asks for.
 *
 * Invariant of every case, whatever it expects: nothing outside the store and the mount is touched (canary()). Of every
 * refusal: the code, the message and a hint; no control characters; no layer, image or tag in the store, and in
 * staging/ at most a download that can be resumed. Needs root.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { convertImage } from '../../src/convert-image.ts';
import { mountsBelow, unmount } from '../../src/host/mount.ts';
import { mountImage, unmountImage } from '../../src/mount-image.ts';
import { type ErrorCode, OciError } from '../../src/oci/errors.ts';
import { parsePlatform } from '../../src/oci/platform.ts';
import { type PulledImage, pullImage } from '../../src/pull.ts';
import { openLayerWorkers } from '../../src/store/layer-worker-pool.ts';
import type { StoreFormat } from '../../src/store/layout.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import type { BuiltEntry } from '../unit/archive/tar-builder.ts';
import { inodes, storedLayers } from '../unit/store/programs.ts';
import { ARCHITECTURE, type ImageSpec, TAG, writeLayout } from './image.ts';
import { treeLines } from './tree.ts';

/** Not in a tmpfs: trees need user xattrs and device nodes. */
export const scratch = mkdtempSync('/var/tmp/ocictl-hostile-');
/** A directory of the host that many cases try to write to or to show. */
export const OUTSIDE = join(scratch, 'outside');
mkdirSync(OUTSIDE);
// Every pull starts threads, and those read their program: keep it compiled.
process.env['NODE_COMPILE_CACHE'] ??= join(scratch, 'compiled');
writeFileSync(join(OUTSIDE, 'secret'), 'secret of the host');
const UNTOUCHED = inodes(OUTSIDE);

/** Threads that have seen many a hostile layer must treat the next one right. */
export const workers = openLayerWorkers(4);

after(async () => {
  await workers.close();
  for (const { target } of mountsBelow(scratch).toReversed()) unmount(target);
  rmSync(scratch, { recursive: true });
});

/** Lines of treeLines(); or a refusal; or a check of its own. `base` has the layout, and is removed afterwards. */
export type Outcome = readonly string[] | Refused | Check;
export interface Refused {
  readonly code: ErrorCode;
  /** Without "pull '…': layer …: "; LAYOUT stands for the layout's path. */
  readonly message: string | RegExp;
}
export type Check = (seen: { pulled: PulledImage; store: Store; tree: string; base: string }) => void;
export type Case = readonly [name: string, image: ImageSpec | readonly (BuiltEntry | Buffer)[], Outcome];

export function refused(code: ErrorCode, message: string | RegExp): Refused {
  return { code, message };
}
export const badArchive = (message: string | RegExp): Refused => refused('BAD_ARCHIVE', message);
export const badImage = (message: string | RegExp): Refused => refused('BAD_IMAGE', message);

/** Several layers, lowest first. */
export function layered(...layers: NonNullable<ImageSpec['layers']>): ImageSpec {
  return { layers };
}

let counter = 0;

/** Makes each case a test. An image given as a list of entries has that one layer. */
export function hostile(title: string, cases: readonly Case[]): void {
  // Beside each other: most of a case is waiting for threads and for the disk.
  describe(title, { concurrency: 4 }, () => {
    for (const [name, image, outcome] of cases)
      test(name, () => judge(isParts(image) ? { layers: [image] } : image, outcome));
  });
}

function isParts(image: Case[1]): image is readonly (BuiltEntry | Buffer)[] {
  return Array.isArray(image);
}

async function judge(spec: ImageSpec, outcome: Outcome): Promise<void> {
  const base = join(scratch, String(counter++));
  const root = join(base, 'store');
  mkdirSync(base);
  writeLayout(join(base, 'layout'), spec);
  const store = openStore({ root, create: true })!;
  const pull = (format: StoreFormat, into = store) =>
    pullImage({
      store: into,
      format,
      name: `oci:${join(base, 'layout')}:${TAG}`,
      localName: 'hostile',
      platform: parsePlatform(ARCHITECTURE),
      source: {},
      workers,
    });
  try {
    if (isRefused(outcome)) {
      await assertRefused(pull('tree'), outcome, base);
      assertNothingStored(root);
    } else await assertTree(await pull('tree'), outcome, store, base);
    await judgeComposefs((into) => pull('composefs', into), outcome, base);
  } finally {
    assertUntouched();
    for (const { target } of mountsBelow(base).toReversed()) unmount(target);
    rmSync(base, { recursive: true });
  }
}

/** The same image in the other format has to look the same, or be refused for the same kind of reason. */
async function judgeComposefs(
  pull: (store: Store) => Promise<PulledImage>,
  outcome: Outcome,
  base: string,
): Promise<void> {
  if (typeof outcome === 'function') return;
  const store = openStore({ root: join(base, 'composefs'), create: true })!;
  if (isRefused(outcome)) {
    await assertRefused(pull(store), { ...outcome, message: /\S/ }, base);
    return;
  }
  const pulled = await pull(store);
  const { path, objects } = pulled.image.composefs!;
  const [image, tree] = ['erofs', 'merged'].map((name) => join(base, name)) as [string, string];
  mkdirSync(image);
  mkdirSync(tree);
  mkdirSync(objects, { recursive: true });
  execFileSync('mount', ['-t', 'erofs', '-o', 'ro,loop', path, image]);
  const options = `ro,metacopy=on,redirect_dir=follow,lowerdir=${image}::${objects}`;
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, tree]);
  const lines = outcome.map((line) => line.replace(EXT4_TIME_MAX, TIME_BEYOND));
  assert.deepEqual(treeLines(tree), lines, 'in format composefs');
  await judgeConverted(store, pulled, base);
}

/** Of the image in format composefs alone come the very layers that were pulled as trees. */
async function judgeConverted(store: Store, { image }: PulledImage, base: string): Promise<void> {
  renameSync(join(base, 'layout'), join(base, 'gone'));
  const signal = new AbortController().signal;
  const runRoot = join(base, 'run');
  assert.ok(await convertImage({ store, image, to: 'tree', runRoot, source: {}, waiting: {}, signal }));
  assert.deepEqual(storedLayers(store.root), storedLayers(join(base, 'store')), 'converted');
  assert.deepEqual((await store.check()).damage, [], 'converted');
}

/** The store's file system may know no later time; an image does. */
const EXT4_TIME_MAX = '@15032385535';
const TIME_BEYOND = '@253402300800';

function isRefused(outcome: Outcome): outcome is Refused {
  return 'code' in outcome;
}

async function assertTree(
  pulled: PulledImage,
  outcome: readonly string[] | Check,
  store: Store,
  base: string,
): Promise<void> {
  const runRoot = join(base, 'run');
  const tree = await mountImage(store, pulled.image, runRoot);
  if (typeof outcome === 'function') outcome({ pulled, store, tree, base });
  else assert.deepEqual(treeLines(tree), outcome);
  await unmountImage(store, pulled.image, runRoot);
}

async function assertRefused(pull: Promise<unknown>, expected: Refused, base: string): Promise<void> {
  let error: unknown;
  try {
    await pull;
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error instanceof OciError, error === undefined ? 'the image was taken' : String(error));
  const message = error.message
    .replace(/^pull '[^']*': /, '')
    .replace(/^layer [^ ]*: /, '')
    .replaceAll(join(base, 'layout'), 'LAYOUT');
  assert.equal(error.code, expected.code, message);
  if (typeof expected.message === 'string') assert.equal(message, expected.message);
  else assert.match(message, expected.message);
  assert.match(error.hint, /\S/, 'a hint');
  assertPrintable(error.message);
  assertPrintable(error.hint);
  for (const line of (error.detail ?? '').split('\n')) assertPrintable(line);
}

export function assertPrintable(text: string): void {
  assert.doesNotMatch(text, /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/);
  assert.ok(text.length < 4000, 'a message of a bounded length');
}

/** Nothing of an image is in the store. */
export function assertNothingStored(root: string): void {
  if (!existsSync(root)) return;
  const names = (directory: string) => readdirSync(join(root, directory));
  assert.deepEqual(
    [names('layers').filter((name) => name !== 'skeleton'), names('images'), names('tags')],
    [[], [], []],
  );
  assert.deepEqual(names('staging'), ['blobs']);
  for (const name of names('staging/blobs')) assert.match(name, /^[0-9a-f]+\.partial$/);
}

/** Whatever a case did, the directory that it may have aimed at is as it was. */
export function assertUntouched(): void {
  assert.deepEqual(inodes(OUTSIDE), UNTOUCHED);
}
