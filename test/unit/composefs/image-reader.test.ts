/** Looking into composefs images without mounting them: what our writer wrote, and bytes that are damaged in every way. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeErofsImage } from '../../../src/composefs/erofs-image.ts';
import { openImage } from '../../../src/composefs/image-reader.ts';
import { verityDigestOf } from '../../../src/composefs/verity-digest.ts';
import { OciError } from '../../../src/oci/errors.ts';
import { FOREIGN_UID_BASE } from '../../../src/oci/limits.ts';
import { openComposefsTree } from '../../../src/store/composefs-tree.ts';
import { throwsOci } from '../expect-error.ts';
import { file, type Node, node } from './odd-tree.ts';

const objects = mkdtempSync(join(tmpdir(), 'oci-objects-'));
after(() => rmSync(objects, { recursive: true }));

const content = Buffer.alloc(9000, 'content ');
const digest = verityDigestOf(content);
const objectPath = join(objects, digest.slice(0, 2), digest.slice(2));
mkdirSync(join(objects, digest.slice(0, 2)));
writeFileSync(objectPath, content);

function directory(children: Record<string, Node>, more: Parameters<typeof node>[1] = {}): Node {
  return Object.assign(node('directory', more), { children: new Map(Object.entries(children)) });
}

function bytesOf(root: Node): Buffer {
  const chunks: Buffer[] = [];
  writeErofsImage(root, (bytes) => void chunks.push(Buffer.from(bytes)));
  return Buffer.concat(chunks);
}

const link = (target: string) => node('symlink', { target });
const many = Object.fromEntries(
  Array.from({ length: 1000 }, (_, i) => [`file number ${i}`, link(`to ${i}`)]),
);
const image = bytesOf(
  directory(
    {
      etc: directory({
        passwd: file(content.length, { object: digest, uid: 3, gid: 4, mode: 0o4640 }),
        small: node('file', {
          size: 5,
          inline: Buffer.from('small'),
          xattrs: new Map([['user.x', Buffer.from('y')]]),
        }),
        empty: node('file', { size: 0 }),
      }),
      'link-up': link('../../../etc/small'),
      absolute: link('/etc/passwd'),
      through: link('etc/../etc'),
      loop: link('loop'),
      dangling: link('nowhere'),
      many: directory(many),
      gone: node('characterDevice', { deviceMajor: 0, deviceMinor: 0 }),
      null: node('characterDevice', { deviceMajor: 1, deviceMinor: 3 }),
      fifo: node('fifo'),
      'n\xe4me': node('file', { size: 1, inline: Buffer.from('x') }),
    },
    { mode: 0o700, uid: 65535 },
  ),
);
const tree = openComposefsTree(image, objects);

test('kinds, modes, owners and sizes', () => {
  const of = (path: string) => {
    const entry = tree.lookup(path, { followLast: false });
    return (
      entry && [
        entry.kind,
        entry.mode,
        entry.uid - FOREIGN_UID_BASE,
        entry.gid - FOREIGN_UID_BASE,
        entry.size,
      ]
    );
  };
  assert.deepEqual(of('/')?.slice(0, 4), ['directory', 0o700, 65535, 0]);
  assert.deepEqual(of('/etc/passwd'), ['file', 0o4640, 3, 4, 9000]);
  assert.equal(of('fifo')?.[0], 'fifo');
  assert.equal(of('/null')?.[0], 'device');
  assert.equal(of('/etc/missing'), undefined);
  assert.equal(of('/etc/small/below'), undefined);
  assert.equal(of('/00'), undefined, 'the stubs of the root are whiteouts');
  assert.equal(tree.lookup(Buffer.from('n\xe4me', 'latin1'))?.kind, 'file');
});

test('every one of many names in a directory', () => {
  for (const [name, { inode }] of Object.entries(many))
    assert.equal(
      tree.lookup(`/many/${name}`, { followLast: false })?.target?.toString('latin1'),
      inode.target,
    );
  assert.equal(tree.lookup('/many/file number 1000', { followLast: false }), undefined);
  assert.equal(tree.lookup('/many/file number', { followLast: false }), undefined);
});

test('links lead inside the image, and round in no circle', () => {
  for (const path of ['/link-up', '/through/small', '/etc/../../etc/small'])
    assert.equal(tree.readFile(path, 10)?.toString(), 'small', path);
  for (const path of ['/loop', '/dangling', '/link-up/x']) assert.equal(tree.lookup(path), undefined, path);
  assert.equal(tree.lookup('/absolute', { followLast: false })?.target?.toString(), '/etc/passwd');
});

test('content: of the image, of an object, nothing', () => {
  assert.deepEqual(tree.readFile('/absolute', 10_000), content);
  assert.deepEqual(tree.readHead('/absolute', 10), content.subarray(0, 10));
  assert.deepEqual(tree.readHead('/etc/small', 3), Buffer.from('sma'));
  assert.equal(tree.readFile('/etc/empty', 10)?.length, 0);
  for (const path of ['/etc', '/fifo', '/missing']) assert.equal(tree.readFile(path, 10), undefined, path);
  throwsOci(() => tree.readFile('/etc/passwd', 8999), 'BAD_IMAGE', /has 9000 bytes, more than 8999/);
});

test('an object that was changed, or is gone, is refused by the file’s name', () => {
  writeFileSync(objectPath, Buffer.alloc(9000, 'Content '));
  throwsOci(
    () => tree.readFile('/etc/passwd', 9000),
    'IO_ERROR',
    /the object of '\/etc\/passwd' is damaged: its content/,
  );
  rmSync(objectPath);
  throwsOci(
    () => tree.readFile('/etc/passwd', 9000),
    'IO_ERROR',
    /the object of '\/etc\/passwd' is damaged: ENOENT/,
  );
  throwsOci(() => tree.readHead('/etc/passwd', 9), 'IO_ERROR', /is damaged: ENOENT/);
  writeFileSync(objectPath, content);
});

test('damaged bytes: an error of ours or another answer, never a crash or a hang', () => {
  const paths = ['/etc/passwd', '/etc/small', '/many/file number 999', '/link-up', '/absolute', '/none'];
  const look = (bytes: Buffer) => {
    try {
      const damaged = openComposefsTree(bytes, objects);
      for (const path of paths) damaged.readHead(path, 100);
    } catch (error) {
      assert.ok(error instanceof OciError, String(error));
    }
  };
  for (let at = 1024; at < image.length; at += at < 2048 ? 3 : 211)
    for (const value of [0, 0xff, image[at]! ^ 0x10]) {
      const bytes = Buffer.from(image);
      bytes[at] = value;
      look(bytes);
    }
  for (let length = 0; length < image.length; length += 1999) look(image.subarray(0, length));
  throwsOci(() => openImage(Buffer.alloc(8192)), 'BAD_IMAGE', /cannot be read: it is no EROFS/);
});
