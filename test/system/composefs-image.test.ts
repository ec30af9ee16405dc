/**
 * Images of format composefs: bit for bit those of mkcomposefs, which is fed once by a dump of our own tree and once by
 * one that a shell script makes of the mounted tree; and the tools of composefs take ours for theirs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeErofsImage } from '../../src/composefs/erofs-image.ts';
import type { TreeNode } from '../../src/composefs/inode.ts';
import { createLayerMerger } from '../../src/composefs/merge-layers.ts';
import { verityDigestOf } from '../../src/composefs/verity-digest.ts';
import type { DiffID } from '../../src/oci/digest.ts';
import { readStream, streamPath } from '../../src/store/streams.ts';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { file, node, oddTree } from '../unit/composefs/odd-tree.ts';
import { dumpTree } from './composefs-dump.ts';
import { BUSYBOX, NGINX, REGISTRY } from './container.ts';

const machine = sharedMachine();

const sh = async (text: string): Promise<string> => stdoutOf(await machine.script(text));

function imageOf(root: TreeNode): Buffer {
  const pieces: Buffer[] = [];
  writeErofsImage(root, (bytes) => pieces.push(bytes));
  return Buffer.concat(pieces);
}

/** Compares with mkcomposefs; the first byte that differs is the message. */
async function assertAsMkcomposefs(root: TreeNode, name: string): Promise<void> {
  const image = imageOf(root);
  await machine.writeFile(`/tmp/${name}.dump`, dumpTree(root));
  await machine.writeFile(`/tmp/${name}.cfs`, image);
  const made = await sh(
    `mkcomposefs --min-version=1 --from-file --print-digest /tmp/${name}.dump /tmp/${name}.oracle; cmp /tmp/${name}.cfs /tmp/${name}.oracle >&2`,
  );
  assert.equal(made.trim(), verityDigestOf(image));
}

test('an empty tree, and one with everything odd, are the bytes that mkcomposefs makes', async () => {
  await assertAsMkcomposefs(node('directory'), 'empty');
  await assertAsMkcomposefs(oddTree(), 'odd');
});

test('a file with more than 65535 links', async () => {
  const root = node('directory');
  const linked = file(100, { mtime: root.inode.mtime });
  for (let i = 0; i < 65536; i++) root.children!.set(`link${i}`, linked);
  await assertAsMkcomposefs(root, 'links');
});

test('composefs-info reads ours', async () => {
  const root = oddTree();
  await machine.writeFile('/tmp/ours.cfs', imageOf(root));
  const objects = (await sh('composefs-info objects /tmp/ours.cfs')).trim().split('\n');
  assert.ok(objects.length >= 16, `${objects.length} objects`);
  const dump = await sh('composefs-info dump /tmp/ours.cfs');
  assert.equal(dump.split('\n').length, dumpTree(root).split('\n').length);
});

/** composefs-dump(5) of a mounted tree, by perl and the tools of the machine: nothing of ours. */
const DUMP_TREE = String.raw`
use strict; use warnings; use POSIX;
my $root = shift; chdir $root or die; my (%seen, @queue); @queue = ('');
sub esc { my ($t, $more) = @_; return '\x2d' if $t eq '-'; $t =~ s/([^\x21-\x7e]|\\|$more)/sprintf('\\x%02x', ord $1)/ge; $t }
my (%time, %verity, %xattrs);
{ local $/ = "\0"; open my $f, '-|', 'find . -printf "%p\t%T@\0"' or die; while (<$f>) { chomp; /^\.(.*)\t(.*)$/s; $time{$1} = $2 } }
open my $v, '-|', 'find . -type f -size +64c -exec fsverity digest --compact {} +' or die;
my @digests = <$v>; open my $n, '-|', 'find . -type f -size +64c -print0' or die;
{ local $/ = "\0"; while (<$n>) { chomp; s/^\.//; $verity{$_} = shift @digests; $verity{$_} =~ s/\s.*//s } }
my $at; open my $x, '-|', 'getfattr --recursive --physical --no-dereference --dump --match=- --encoding=hex . 2>/dev/null' or die;
while (<$x>) { chomp; if (/^# file: (.*)/) { $at = $1 eq '.' ? '' : "/$1"; $at =~ s/\\([0-7]{3})/chr oct $1/ge }
  elsif (/^([^=#]+)=(?:0x)?([0-9a-f]*)$/ && $1 !~ /^trusted\.overlay\./) { push @{$xattrs{$at}}, esc($1, '=') . '=' . esc(pack('H*', $2), '=') } }
sub xattrs { return sort @{$xattrs{shift()} // []} }
while (@queue) {
  my $p = shift @queue; my @s = lstat ".$p"; my $shown = $p eq '' ? '/' : $p; my $path = esc($shown, "\0");
  my $dir = S_ISDIR($s[2]); my $lnk = ($s[2] & 0170000) == 0120000; my $reg = ($s[2] & 0170000) == 0100000;
  if (!$dir && $seen{$s[1]}) { print "$path 0 \@120000 - - - - 0.0 " . esc($seen{$s[1]}, "\0") . " - -\n"; next }
  $seen{$s[1]} = $shown unless $dir;
  my ($sec, $nsec) = split /[.]/, $time{$p}; $nsec = substr($nsec, 0, 9) + 0;
  my ($payload, $content, $digest) = ('-', '-', '-');
  if ($lnk) { $payload = esc(readlink ".$p", "\0") }
  elsif ($reg && $s[7] > 64) { $digest = $verity{$p}; $payload = substr($digest, 0, 2) . '/' . substr($digest, 2) }
  elsif ($reg && $s[7]) { open my $f, '<:raw', ".$p"; local $/; $content = esc(scalar <$f>, "\0") }
  my $size = $dir ? 0 : $s[7]; my $links = $s[3];
  if ($dir) { opendir my $d, ".$p" or die "$p: $!"; my @names = sort grep { !/^\.\.?$/ } readdir $d;
    push @queue, map { "$p/$_" } @names; $links = 2 + grep { !-l ".$p/$_" && -d _ } @names }
  print join(' ', $path, $size, sprintf('%o', $s[2]), $links, $s[4], $s[5], $reg || $dir || $lnk ? 0 : $s[6], "$sec.$nsec", $payload, $content, $digest, xattrs($p)) . "\n";
}`;

const IMAGES = [NGINX, BUSYBOX, `${REGISTRY}/fedora-mirror/fedora`];

for (const image of IMAGES)
  test(`the image of ${image} is the bytes of mkcomposefs, from our layers and from the mounted tree`, async () => {
    await sh(
      `oci-pull --quiet --root /var/lib/cfs --store-format composefs ${image}; oci-pull --quiet ${image}`,
    );
    const { directory, imageDigest, layers } = JSON.parse(
      await sh(`ocictl --json --root /var/lib/cfs inspect ${image}`),
    ) as { directory: string; imageDigest: string; layers: { diffID: DiffID }[] };
    const cfs = `${directory}/image.cfs`;
    assert.equal((await sh(`fsverity digest --compact ${cfs}`)).trim(), imageDigest.replace('sha256:', ''));

    const merger = createLayerMerger();
    for (const { diffID } of layers)
      merger.add(readStream(streamPath({ root: `${machine.root}/var/lib/cfs` }, diffID)));
    await machine.writeFile('/tmp/ours.dump', dumpTree(merger.root));
    await sh(
      `mkcomposefs --min-version=1 --from-file /tmp/ours.dump /tmp/oracle.cfs; cmp ${cfs} /tmp/oracle.cfs >&2`,
    );

    await machine.writeFile('/tmp/dump.pl', DUMP_TREE);
    const tree = (await sh(`ocictl mount ${image}`)).trim();
    await sh(`perl /tmp/dump.pl ${tree} > /tmp/theirs.dump; ocictl umount ${image} >&2`);
    await sh(
      'mkcomposefs --min-version=1 --from-file /tmp/theirs.dump /tmp/oracle.cfs; sort /tmp/ours.dump > /tmp/a; sort /tmp/theirs.dump > /tmp/b; diff /tmp/a /tmp/b | head -20 >&2',
    );
    await sh(`cmp ${cfs} /tmp/oracle.cfs >&2`);

    const objects = (await sh(`composefs-info objects ${cfs}`)).trim().split('\n');
    for (const object of objects.slice(0, 20)) await sh(`test -f /var/lib/cfs/objects/${object}`);
    await sh(
      `mkdir -p /tmp/mounted; mount.composefs -o basedir=/var/lib/cfs/objects ${cfs} /tmp/mounted; test -d /tmp/mounted/bin; umount /tmp/mounted`,
    );
  });
