/**
 * Entries and their data → a tar: ustar headers, and a PAX header before an entry that does not fit one
 * (POSIX.1-2024 pax).
 *
 * Invariant: what is written reads back as it was; a value that does not fit its field goes to the PAX header.
 */
import type { TarEntry } from './tar-entry.ts';
import { BLOCK_BYTES } from './tar-header.ts';
import type { TarHandler } from './tar-parser.ts';

const TYPE_FLAGS: Record<TarEntry['type'], string> = {
  file: '0',
  hardLink: '1',
  symlink: '2',
  characterDevice: '3',
  blockDevice: '4',
  directory: '5',
  fifo: '6',
};

const NAME_BYTES = 100;
const ID_MAX = 0o7777777;
const SIZE_MAX = 0o77777777777;
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

/** `LENGTH KEY=VALUE\n` for each value that its field cannot hold. */
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

/** The length counts its own digits. */
function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

function padded(bytes: Buffer): Buffer {
  const block = Buffer.alloc(Math.ceil(bytes.length / BLOCK_BYTES) * BLOCK_BYTES);
  bytes.copy(block);
  return block;
}

function header(entry: TarEntry, flag: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, digits: number) => {
    const fits = value >= 0 && value < 8 ** digits ? value : 0;
    block.write(fits.toString(8).padStart(digits, '0'), at, 'latin1');
  };
  block.write(entry.path.slice(0, NAME_BYTES), 0, 'latin1');
  octal(entry.mode, 100, 7);
  octal(entry.uid, 108, 7);
  octal(entry.gid, 116, 7);
  octal(size, 124, 11);
  octal(entry.mtime.seconds, 136, 11);
  block.write(`${' '.repeat(8)}${flag}`, 148, 'latin1');
  block.write(entry.linkPath.slice(0, NAME_BYTES), 157, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(entry.deviceMajor, 329, 7);
  octal(entry.deviceMinor, 337, 7);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}
