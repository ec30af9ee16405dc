/**
 * An assembler for the classic BPF that seccomp(2) runs (struct sock_filter of linux/filter.h).
 *
 * Programs are written from their end to their beginning: jumps only go forward, so each target exists before the
 * jump to it. Invariant: every conditional jump fits into its 8 bits, by a copy of a `return` or a long jump near it.
 */
import { OciError } from '../oci/errors.ts';

/** A place to go on at: an instruction, counted from the program's end, or the end with this value. */
export type Target = { at: number } | { value: number };

export const COMPARE = { EQ: 0x15, GT: 0x25, GE: 0x35 } as const;

const LOAD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP = 0x05; // BPF_JMP | BPF_JA
const RETURN = 0x06; // BPF_RET | BPF_K

const INSTRUCTIONS_MAX = 4096; // BPF_MAXINSNS
const INSTRUCTION_BYTES = 8;
/** Two instructions may come between finding a target near and the jump to it. */
const NEAR = 253;

export interface Assembler {
  /** Load a 32-bit word of struct seccomp_data, go on at `next`. */
  load(offset: number, next: Target): Target;
  /** Mask the loaded word, go on at `next`. */
  and(mask: number, next: Target): Target;
  /** Compare the loaded word (unsigned). */
  compare(code: number, value: number, yes: Target, no: Target): Target;
  /** The bytes, in the machine's (little-endian) order; `start` is the first instruction. */
  assemble(start: Target): Uint8Array;
}

export function createAssembler(): Assembler {
  const instructions: { code: number; yes: number; no: number; value: number }[] = [];
  const returns = new Map<number, number>();

  function push(code: number, value: number, yes = 0, no = 0): Target {
    if (instructions.length >= INSTRUCTIONS_MAX)
      throw new OciError(
        'UNSUPPORTED',
        `seccomp: the filter is longer than the kernel's ${INSTRUCTIONS_MAX} instructions`,
        { hint: 'Use fewer rules with arguments, or fewer architectures.' },
      );
    instructions.push({ code, yes, no, value: value >>> 0 });
    return { at: instructions.length };
  }

  /** How far the next instruction jumps to reach `at`. */
  const distance = (at: number) => instructions.length - at;

  /** The target, or one like it that a conditional jump written soon reaches. */
  function near(target: Target): number {
    if ('at' in target) {
      if (distance(target.at) <= NEAR) return target.at;
      push(JUMP, distance(target.at));
      return instructions.length;
    }
    const known = returns.get(target.value);
    if (known !== undefined && distance(known) <= NEAR) return known;
    push(RETURN, target.value);
    returns.set(target.value, instructions.length);
    return instructions.length;
  }

  /** Makes `target` what follows the next instruction. */
  function follow(target: Target): void {
    if ('at' in target && distance(target.at) === 0) return;
    if ('at' in target) push(JUMP, distance(target.at));
    else push(RETURN, target.value);
  }

  return {
    load(offset, next) {
      follow(next);
      return push(LOAD, offset);
    },
    and(mask, next) {
      follow(next);
      return push(AND, mask);
    },
    compare(code, value, yes, no) {
      const [nearYes, nearNo] = [near(yes), near(no)];
      return push(code, value, distance(nearYes), distance(nearNo));
    },
    assemble(start) {
      follow(start);
      const bytes = new Uint8Array(instructions.length * INSTRUCTION_BYTES);
      const view = new DataView(bytes.buffer);
      instructions.toReversed().forEach(({ code, yes, no, value }, index) => {
        const at = index * INSTRUCTION_BYTES;
        view.setUint16(at, code, true);
        view.setUint8(at + 2, yes);
        view.setUint8(at + 3, no);
        view.setUint32(at + 4, value, true);
      });
      return bytes;
    },
  };
}
