/** Tars that come out of their tables of contents byte for byte: GNU tar's own, and Go's as its source has them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findStyle, writeInStyle } from '../../../src/archive/tar-style.ts';
import { parseToc, type TocEntry } from '../../../src/archive/toc.ts';
import { zstdChunked } from './chunked-builder.ts';
import { type BuiltEntry, padded, paxRecord, tar, tarHeader } from './tar-builder.ts';

const LONG = 'long'.repeat(20);
/** In every file that is not empty, and nowhere else. */
const CONTENT = '<content of a file>';

/** What the table of such a layer says; `modes`: with more bits than a parser keeps. */
function entriesOf(archive: Buffer, modes: Record<string, number> = {}): readonly TocEntry[] {
  const { toc, blob } = zstdChunked(archive);
  for (const row of toc.entries) row['mode'] = modes[String(row['name'])] ?? row['mode'];
  return parseToc(Buffer.from(JSON.stringify(toc)), 'zstd:chunked', blob.length).entries;
}

/** All of the tar but the content of files, which is marked. */
function withoutContent(archive: Buffer): string[] {
  return archive.toString('latin1').split(new RegExp(`(?:${CONTENT})+`));
}

const leadOf = (archive: Buffer) => archive.subarray(0, archive.indexOf(CONTENT));

/** As withoutContent(), of the tar that the table makes. */
function rebuilt(archive: Buffer, entries = entriesOf(archive)): string[] {
  const style = findStyle(leadOf(archive), entries);
  assert.ok(style !== undefined);
  const parts = [''];
  const sizes: number[] = [];
  writeInStyle(entries, style, {
    segment(bytes) {
      parts.push(parts.pop()! + bytes.toString('latin1'));
    },
    content(size) {
      sizes.push(size);
      parts.push('');
    },
  });
  assert.deepEqual(
    sizes,
    entries.map(({ size }) => size).filter((size) => size > 0),
  );
  return parts;
}

test('what GNU tar writes', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'ocictl-style-'));
  t.after(() => rmSync(root, { recursive: true }));
  const at = (name: string) => join(root, 'tree', name);
  mkdirSync(at(`deep/${LONG}/${LONG}`), { recursive: true });
  writeFileSync(at('a'), CONTENT);
  writeFileSync(at(`deep/${LONG}/${LONG}/file`), CONTENT.repeat(100));
  writeFileSync(at('n'.repeat(98)), CONTENT);
  writeFileSync(at('z-empty'), '');
  writeFileSync(at('\u00fcml\u00e4ut'), CONTENT);
  linkSync(at('a'), at('b'));
  linkSync(at(`deep/${LONG}/${LONG}/file`), at('deep/hard'));
  symlinkSync(`${LONG}/${LONG}`, at('link'));
  symlinkSync('\u00fcml\u00e4ut', at('other'));
  for (const [name, ...kind] of [
    ['char', 'c', '5', '300'],
    ['block', 'b', '7', '0'],
    ['fifo', 'p'],
  ])
    assert.equal(spawnSync('mknod', [at(name!), ...kind]).status, 0);
  utimesSync(at('z-empty'), -315_619_200, -315_619_200);
  utimesSync(at('fifo'), 1_600_000_000.25, 1_600_000_000.25);
  utimesSync(at('char'), -1.75, -1.75);
  const path = join(root, 'a.tar');
  const { status, stderr } = spawnSync('tar', [
    ...['--create', `--file=${path}`, `--directory=${join(root, 'tree')}`, '--sort=name', '--numeric-owner'],
    // what versions before 1.35 put a process's number into
    ...['--format=posix', '--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f', '.'],
  ]);
  assert.equal(status, 0, String(stderr));
  const archive = readFileSync(path);
  assert.deepEqual(rebuilt(archive), withoutContent(archive));
});

test('what GNU tar writes since 1.35: numbers of devices for devices only', () => {
  const entries = tar(
    tarHeader({ name: './', type: '5', mode: 0o755 }),
    tarHeader({ name: './a', size: CONTENT.length }),
    padded(Buffer.from(CONTENT)),
    tarHeader({ name: './zero', type: '3', deviceMajor: 1, deviceMinor: 5 }),
  );
  const archive = Buffer.concat([entries, Buffer.alloc(10_240 - entries.length)]);
  assert.deepEqual(rebuilt(archive), withoutContent(archive));
});

/** As Go writes an entry: numbers of devices in every header. */
const go = (entry: BuiltEntry) => tarHeader({ deviceMajor: 0, deviceMinor: 0, ...entry });
/** Its extended headers are named after the entry, and have nothing else. */
const goRecords = (name: string, ...records: [key: string, value: string | Uint8Array][]) => {
  const data = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  return Buffer.concat([tarHeader({ name, type: 'x', mode: 0, size: data.length }), padded(data)]);
};

test('what Go writes', () => {
  const [deep, name] = [`${LONG}/${LONG.slice(1)}`, 'n'.repeat(90)];
  const far = `${LONG}/`.repeat(3);
  const archive = tar(
    go({ name: 'dir/', type: '5', mode: 0o40755, mtime: 1e9 }),
    go({ name: 'a', mode: 0o4755, uid: 65_535, gid: 42, size: CONTENT.length }),
    padded(Buffer.from(CONTENT)),
    go({ name: 'console', type: '3', deviceMajor: 5, deviceMinor: 1 }),
    go({ name: 'hard', type: '1', linkName: 'a' }),
    // a name for which the prefix has room, as a file's and as a directory's
    go({ name, prefix: deep }),
    go({ name: `${name}/`, prefix: deep, type: '5' }),
    // and those for which it has none
    goRecords(`${far}PaxHeaders.0`.slice(0, 100), ['path', far]),
    go({ name: far.slice(0, 100), type: '5' }),
    goRecords('PaxHeaders.0/mlut', ['path', '\u00fcml\u00e4ut']),
    go({ name: 'mlut', size: CONTENT.length }),
    padded(Buffer.from(CONTENT)),
    goRecords('etc/PaxHeaders.0/link', ['linkpath', far]),
    go({ name: 'etc/link', type: '2', linkName: far.slice(0, 100) }),
    goRecords(
      'etc/PaxHeaders.0/all',
      ['SCHILY.xattr.user.a', '1'],
      ['SCHILY.xattr.user.b', Buffer.from('\0\n=\xff', 'latin1')],
      ['mtime', '1600000000.25'],
    ),
    go({ name: 'etc/all', mtime: 1_600_000_000 }),
    // with records anyway, a long name is one of them
    goRecords(`${deep}/PaxHeaders.0/`.slice(0, 100), ['mtime', '-5'], ['path', `${deep}/x`]),
    go({ name: `${deep}/x`.slice(0, 100) }),
  );
  const entries = entriesOf(archive, { 'dir/': 0o40755 });
  assert.deepEqual(rebuilt(archive, entries), withoutContent(archive));
});

test('the beginning of a tar shows whether it is of another program', () => {
  const content = padded(Buffer.from(CONTENT));
  const directory = go({ name: 'dir/', type: '5' });
  const named = (userName: string) =>
    go({ name: 'a', size: CONTENT.length, patch: (header) => header.write(userName, 265) });
  const own = tar(directory, named(''), content);
  const entries = entriesOf(own);
  assert.notEqual(findStyle(leadOf(own), entries), undefined);
  assert.equal(findStyle(leadOf(tar(directory, named('root'), content)), entries), undefined);
  assert.equal(findStyle(leadOf(own).subarray(512), entries), undefined);
  assert.equal(findStyle(Buffer.alloc(0), entries), undefined);
  assert.equal(findStyle(leadOf(own), entriesOf(tar(directory))), undefined);
});
