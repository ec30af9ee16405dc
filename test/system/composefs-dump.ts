/** A tree as text, a line for each name: composefs-dump(5). What composefs' own tools read, and people compare. */
import { S_IFMT } from '../../src/composefs/erofs-format.ts';
import type { TreeNode } from '../../src/composefs/inode.ts';
import { compare } from '../../src/composefs/xattr-table.ts';

/** Breadth first, as the image is; a file's further names are links to its first. */
export function dumpTree(root: TreeNode): string {
  const links = new Map<TreeNode, number>();
  const all: { path: string; node: TreeNode }[] = [{ path: '/', node: root }];
  for (let next = 0; next < all.length; next++) {
    const { path, node } = all[next]!;
    links.set(node, (links.get(node) ?? 0) + 1);
    for (const [name, child] of [...(node.children ?? [])].sort(([a], [b]) => compare(a, b)))
      all.push({ path: `${path === '/' ? '' : path}/${name}`, node: child });
  }
  const first = new Map<TreeNode, string>();
  return all
    .map(({ path, node }) => {
      const known = first.get(node);
      if (known !== undefined) return `${escaped(path)} 0 @120000 - - - - 0.0 ${escaped(known)} - -\n`;
      first.set(node, path);
      const { inode } = node;
      const subdirectories = [...(node.children?.values() ?? [])].filter(
        (child) => child.inode.type === 'directory',
      );
      const rdev =
        (inode.deviceMinor & 0xff) + (inode.deviceMajor << 8) + (inode.deviceMinor & ~0xff) * 2 ** 12;
      const object = inode.object && `${inode.object.slice(0, 2)}/${inode.object.slice(2)}`;
      return `${[
        escaped(path),
        inode.type === 'symlink' ? inode.target.length : inode.size,
        (S_IFMT[inode.type] | inode.mode).toString(8),
        inode.type === 'directory' ? 2 + subdirectories.length : links.get(node),
        inode.uid,
        inode.gid,
        rdev,
        `${inode.mtime.seconds}.${inode.mtime.nanoseconds}`,
        inode.type === 'symlink' ? escaped(inode.target) : (object ?? '-'),
        inode.inline === undefined || inode.inline.length === 0
          ? '-'
          : escaped(inode.inline.toString('latin1')),
        inode.object ?? '-',
        ...[...(inode.xattrs ?? [])]
          .sort(([a], [b]) => compare(a, b))
          .map(([name, value]) => `${escaped(name, '=')}=${escaped(value.toString('latin1'), '=')}`),
      ].join(' ')}\n`;
    })
    .join('');
}

function escaped(text: string, more = ''): string {
  if (text === '-') return '\\x2d';
  return [...text]
    .map((char) =>
      char > ' ' && char < '\x7f' && char !== '\\' && !more.includes(char)
        ? char
        : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
    )
    .join('');
}
