/** Runs a filter as the kernel does (Documentation/networking/filter.rst), and checks what the kernel checks first. */
import assert from 'node:assert/strict';

const AUDIT = {
  x86_64: 0xc000_003e,
  i386: 0x4000_0003,
  aarch64: 0xc000_00b7,
  arm: 0x4000_0028,
  riscv64: 0xc000_00f3,
} as const;

export interface Call {
  arch: keyof typeof AUDIT;
  nr: number;
  args?: bigint[];
}

interface Instruction {
  code: number;
  yes: number;
  no: number;
  k: number;
}

function decode(program: Uint8Array): Instruction[] {
  assert.equal(program.length % 8, 0);
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const instructions: Instruction[] = [];
  for (let at = 0; at < program.length; at += 8)
    instructions.push({
      code: view.getUint16(at, true),
      yes: view.getUint8(at + 2),
      no: view.getUint8(at + 3),
      k: view.getUint32(at + 4, true),
    });
  return instructions;
}

/** struct seccomp_data of linux/seccomp.h. */
function seccompData({ arch, nr, args = [] }: Call): DataView {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, nr, true);
  data.setUint32(4, AUDIT[arch], true);
  for (const [index, arg] of args.entries()) data.setBigUint64(16 + index * 8, arg, true);
  return data;
}

/** The value that the filter returns for a call. */
export function runFilter(program: Uint8Array, call: Call): number {
  const instructions = decode(program);
  const data = seccompData(call);
  let a = 0;
  for (let at = 0; ; at++) {
    const { code, yes, no, k } = instructions[at]!;
    if (code === 0x20) a = data.getUint32(k, true);
    else if (code === 0x54) a = (a & k) >>> 0;
    else if (code === 0x05) at += k;
    else if (code === 0x15) at += a === k ? yes : no;
    else if (code === 0x25) at += a > k ? yes : no;
    else if (code === 0x35) at += a >= k ? yes : no;
    else if (code === 0x06) return k;
    else assert.fail(`code ${code} at ${at}`);
  }
}

/** The kernel's own conditions: its length, offsets, jumps inside the program, a return at the end. */
export function assertLoadable(program: Uint8Array): void {
  const instructions = decode(program);
  assert.ok(instructions.length > 0 && instructions.length <= 4096, String(instructions.length));
  assert.equal(instructions.at(-1)!.code, 0x06);
  instructions.forEach(({ code, yes, no, k }, at) => {
    const left = instructions.length - at - 1;
    if (code === 0x20) assert.ok(k % 4 === 0 && k < 64);
    else if (code === 0x05) assert.ok(k < left);
    else if ([0x15, 0x25, 0x35].includes(code)) assert.ok(yes < left && no < left);
    else assert.ok(code === 0x06 || code === 0x54, String(code));
  });
}
