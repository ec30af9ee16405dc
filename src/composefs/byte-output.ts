/** Little-endian numbers and byte strings → bytes, handed over in pieces; each is its receiver's. */
import { roundUp } from './erofs-format.ts';

const PIECE_BYTES = 1 << 20;

export function createOutput(write: (bytes: Buffer) => void) {
  let piece = Buffer.alloc(PIECE_BYTES);
  let at = 0;
  let before = 0;
  const room = (bytes: number): number => {
    if (at + bytes > PIECE_BYTES) {
      write(piece.subarray(0, at));
      before += at;
      piece = Buffer.alloc(PIECE_BYTES);
      at = 0;
    }
    at += bytes;
    return at - bytes;
  };
  const zeros = (bytes: number): void => void room(bytes);
  return {
    zeros,
    u8: (value: number): void => {
      const to = room(1);
      piece.writeUInt8(value, to);
    },
    u16: (value: number): void => {
      const to = room(2);
      piece.writeUInt16LE(value, to);
    },
    u32: (value: number): void => {
      const to = room(4);
      piece.writeUInt32LE(value, to);
    },
    /** Of a safe integer; negative ones as two's complement. */
    u64: (value: number): void => {
      const to = room(8);
      piece.writeUInt32LE(value >>> 0, to);
      piece.writeInt32LE(Math.floor(value / 2 ** 32) | 0, to + 4);
    },
    bytes: (bytes: Buffer): void => {
      const to = room(bytes.length);
      bytes.copy(piece, to);
    },
    text: (text: string): void => {
      const to = room(text.length);
      piece.write(text, to, 'latin1');
    },
    alignTo: (bytes: number): void => zeros(roundUp(before + at, bytes) - before - at),
    end: (): void => write(piece.subarray(0, at)),
  };
}

export type Output = ReturnType<typeof createOutput>;
