/**
 * Is a layer still what was stored? Its record, its list of files, and every file against that list.
 *
 * Invariant: only reads. What is found is told by path; nothing of it is an error of ours, not even a disk that
 * cannot be read.
 */
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { showBytes } from '../archive/byte-string.ts';
import { errnoText } from '../host/syscalls.ts';
import type { ChainID } from '../oci/digest.ts';
import { quote } from '../oci/errors.ts';
import { describeFiles, type FileLine, parseFileLine, readLines, unescapePath } from './layer-files.ts';
import { type LayerRecord, parseLayerRecord } from './layers.ts';
import { problemOf } from './problem.ts';

export interface LayerDamage {
  /** In the layer's tree, quoted; undefined for what is beside it. */
  readonly path?: string;
  readonly problem: string;
}

export interface LayerCheck {
  /** At most DAMAGE_LISTED_MAX; `more` have been left out. */
  readonly damage: readonly LayerDamage[];
  readonly more: number;
}

const DAMAGE_LISTED_MAX = 100;
const READ_BYTES = 256 * 1024;
const ENTRIES = new Set(['layer.json', 'files', 'tree']);

/** `directory` is layers/<hex>, in this store or another. */
export function checkLayer(directory: string, chainID: ChainID): LayerCheck {
  const damage: LayerDamage[] = [];
  let more = 0;
  const found = (problem: string, path?: string) => {
    if (damage.length === DAMAGE_LISTED_MAX) more++;
    else damage.push(path === undefined ? { problem } : { path: showBytes(path), problem });
  };
  try {
    checkDirectory(directory, found);
    const record = checkRecord(directory, chainID);
    lstatSync(join(directory, 'tree'));
    const files = join(directory, 'files');
    const digest = fileDigest(files);
    if (digest !== record.files) found(`its list of files is not the one that was stored: got ${digest}`);
    else compareTree(join(directory, 'tree'), files, found);
  } catch (error) {
    found(problemOf(error));
  }
  return { damage, more };
}

function checkDirectory(directory: string, found: (problem: string) => void): void {
  const stat = lstatSync(directory, { throwIfNoEntry: false });
  if (stat === undefined) throw new Error('is missing');
  if (!stat.isDirectory()) throw new Error('it is no directory');
  if (stat.uid !== process.geteuid!() || (stat.mode & 0o777) !== 0o700)
    found(`its directory has mode ${octal(stat.mode & 0o7777)} and owner ${stat.uid}`);
  for (const name of readdirSync(directory))
    if (!ENTRIES.has(name)) found(`${quote(name)} does not belong there`);
}

function checkRecord(directory: string, chainID: ChainID): LayerRecord {
  const record = parseLayerRecord(readFileSync(join(directory, 'layer.json'), 'utf8'));
  if (record.chainID !== chainID) throw new Error(`layer.json is that of ${quote(String(record.chainID))}`);
  return record;
}

function fileDigest(path: string): string {
  const hash = createHash('sha256');
  const fd = openSync(path, 'r');
  try {
    const chunk = Buffer.allocUnsafeSlow(READ_BYTES);
    for (let length = readSync(fd, chunk); length > 0; length = readSync(fd, chunk))
      hash.update(chunk.subarray(0, length));
  } finally {
    closeSync(fd);
  }
  return `sha256:${hash.digest('hex')}`;
}

/** Walks the tree and the list side by side: both have the same order. */
function compareTree(tree: string, files: string, found: (problem: string, path: string) => void): void {
  const lines = readLines(files);
  let expected = lines.next().value as string | undefined;
  const advance = () => {
    expected = lines.next().value as string | undefined;
  };
  /** Reports what is missing before `path`; the line of `path` itself, if it is listed. */
  const lineOf = (path: string): FileLine | undefined => {
    for (; expected !== undefined; advance()) {
      const line = parseFileLine(expected)!;
      const listed = unescapePath(line.path);
      if (orderKey(listed) > orderKey(path)) return undefined;
      if (listed === path) {
        advance();
        return line;
      }
      found('is missing', listed);
    }
    return undefined;
  };
  describeFiles(
    tree,
    (text, path) => {
      if (text === expected) {
        advance();
        return;
      }
      const line = lineOf(path);
      const problem = line === undefined ? 'does not belong there' : differences(line, parseFileLine(text)!);
      if (problem !== '') found(problem, path);
    },
    (path, status) => {
      lineOf(path);
      found(`cannot be read: ${errnoText(status)}`, path);
    },
  );
  for (; expected !== undefined; advance()) found('is missing', unescapePath(parseFileLine(expected)!.path));
}

/** Sorts as a tree is walked: a directory, what is in it, then what comes behind. */
function orderKey(path: string): string {
  return path.replaceAll('/', '\0');
}

const TYPE_NAMES: Record<string, string> = {
  f: 'a file',
  d: 'a directory',
  l: 'a symlink',
  c: 'a character device',
  b: 'a block device',
  p: 'a fifo',
  h: 'a hard link',
};

function differences(expected: FileLine, got: FileLine): string {
  const [wanted, is] = [expected.attributes[0]!, got.attributes[0]!];
  if (wanted !== is)
    return `is ${TYPE_NAMES[is] ?? 'something else'}, expected ${TYPE_NAMES[wanted] ?? 'something else'}`;
  const problems: string[] = [];
  const compare = (what: string, a: string, b: string) => {
    if (a !== b) problems.push(`${what} is ${b}, expected ${a}`);
  };
  const target = (line: FileLine) => showBytes(unescapePath(line.target));
  const mode = (line: FileLine) => octal(Number.parseInt(line.attributes.slice(1) || '0', 8));
  compare('mode', mode(expected), mode(got));
  compare('owner', `${expected.uid}:${expected.gid}`, `${got.uid}:${got.gid}`);
  compare(wanted === 'f' ? 'size' : 'device', expected.size, got.size);
  if (expected.size === got.size && expected.crc32 !== got.crc32) problems.push('content differs');
  compare('time', expected.mtime, got.mtime);
  if (expected.xattrs !== got.xattrs) problems.push('extended attributes differ');
  compare('target', target(expected), target(got));
  return problems.join('; ');
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}
