/** A small init program of the host that runs in any container: static, so that no library of the image matters. */
import { closeSync, openSync, readSync } from 'node:fs';
import { OciError } from '../oci/errors.ts';

/** All of them take `-- COMMAND`, reap what is orphaned and pass signals on. */
const CANDIDATES = [
  '/usr/bin/catatonit',
  '/usr/libexec/podman/catatonit',
  '/usr/libexec/catatonit/catatonit',
  '/usr/bin/tini-static',
  '/usr/bin/docker-init',
  '/usr/libexec/docker/docker-init',
];

/** Throws UNAVAILABLE where the host has none. */
export function findStaticInit(): string {
  const found = CANDIDATES.find(isStatic);
  if (found !== undefined) return found;
  throw new OciError('UNAVAILABLE', '--init: this host has no static init program', {
    hint: 'Install one: apt install catatonit, or dnf install catatonit.',
  });
}

const HEADER_BYTES = 4096;
const PT_INTERP = 3;

/** A 64-bit ELF file, in this machine's byte order, without a program interpreter (elf(5)). */
function isStatic(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return false;
  }
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    const bytes = readSync(fd, header, 0, HEADER_BYTES, 0);
    if (bytes < 64 || header.toString('latin1', 0, 5) !== '\x7fELF\x02' || header[5] !== 1) return false;
    const offset = Number(header.readBigUInt64LE(32));
    const size = header.readUInt16LE(54);
    const count = header.readUInt16LE(56);
    if (offset + size * count > bytes) return false;
    for (let index = 0; index < count; index++)
      if (header.readUInt32LE(offset + index * size) === PT_INTERP) return false;
    return count > 0;
  } finally {
    closeSync(fd);
  }
}
