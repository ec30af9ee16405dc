/**
 * Entries and their data → a tar: ustar headers, and a PAX header before an entry that does not fit one
 * (POSIX.1-2024 pax).
 *
 * Invariant: what is written reads back as it was; a value that does not fit its field goes to the PAX header.
 */
import { headerBlock, NAME_BYTES, padded, paxRecord, SIZE_MAX, TYPE_FLAGS } from './tar-block.ts';
import type { TarEntry } from './tar-entry.ts';
import { BLOCK_BYTES } from './tar-header.ts';
import type { TarHandler } from './tar-parser.ts';

const ID_MAX = 0o7777777;
const ZEROS = Buffer.alloc(64 * 1024);

/** `write` may keep no buffer. Data comes in the order of its offsets; what is left out is zeros. */
export function createTarWriter(write: (bytes: Buffer) => void): TarHandler & { finish(): void } {
  let size = 0;
  let position = 0;

  function zerosUpTo(end: number): void {
    while (position < end) {
      const bytes = Math.min(end - position, ZEROS.length);
      write(ZEROS.subarray(0, bytes));
      position += bytes;
    }
  }

  return {
    entry(entry) {
      const records = paxRecords(entry);
      if (records.length > 0) {
        write(header({ ...entry, path: 'pax', linkPath: '', uid: 0, gid: 0 }, 'x', records.length));
        write(padded(records));
      }
      size = entry.type === 'file' ? entry.size : 0;
      position = 0;
      write(header(entry, TYPE_FLAGS[entry.type], size));
    },
    data(bytes, offset) {
      zerosUpTo(offset);
      write(bytes);
      position += bytes.length;
    },
    end() {
      zerosUpTo(Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES);
    },
    finish() {
      write(ZEROS.subarray(0, 2 * BLOCK_BYTES));
    },
  };
}

/** A record for each value that its field cannot hold. */
function paxRecords({ path, linkPath, uid, gid, size, mtime }: TarEntry): Buffer {
  const records: [string, string][] = [];
  if (path.length > NAME_BYTES) records.push(['path', path]);
  if (linkPath.length > NAME_BYTES) records.push(['linkpath', linkPath]);
  if (uid > ID_MAX) records.push(['uid', String(uid)]);
  if (gid > ID_MAX) records.push(['gid', String(gid)]);
  if (size > SIZE_MAX) records.push(['size', String(size)]);
  if (mtime.seconds < 0 || mtime.seconds > SIZE_MAX) records.push(['mtime', String(mtime.seconds)]);
  return Buffer.from(records.map(([key, value]) => paxRecord(key, value)).join(''), 'latin1');
}

function header(entry: TarEntry, typeFlag: string, size: number): Buffer {
  const { path, linkPath, mode, uid, gid, mtime, deviceMajor, deviceMinor } = entry;
  const device = { major: deviceMajor, minor: deviceMinor };
  return headerBlock({
    ...{ name: path, linkName: linkPath, typeFlag, mode, uid, gid, size },
    ...{ mtime: mtime.seconds, device },
  });
}
