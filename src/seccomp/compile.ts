/**
 * linux.seccomp of a runtime spec → the filter that the kernel runs: an array of struct sock_filter, the format that
 * setpriv(1) --seccomp-filter reads and that seccomp_export_bpf(3) writes.
 *
 * The program: the architecture first, then a binary search for the call's number among the ranges of numbers with
 * the same answer, then its conditions. A call of an architecture that the profile does not list kills the process.
 * Specification: config-linux.md, "Seccomp"; Linux's Documentation/userspace-api/seccomp_filter.rst.
 */
import { OciError, quote } from '../oci/errors.ts';
import type { Seccomp } from '../oci/runtime-spec.ts';
import { badProfile, ENOSYS, RETURN } from './actions.ts';
import { type Architecture, architecture } from './architectures.ts';
import { type Assembler, COMPARE, createAssembler, type Target } from './bpf.ts';
import { isMultiplexed, multiplexedRules } from './multiplexed.ts';
import { type Condition, collectRules, type Rule, type Rules } from './rules.ts';

export interface CompiledFilter {
  program: Uint8Array;
  /** Names in the profile that no architecture of the filter has as a call; they have no effect, as elsewhere. */
  unknown: string[];
}

/** Offsets in struct seccomp_data. */
const NUMBER = 0;
const ARCHITECTURE = 4;
const ARGUMENTS = 16;

/** `native` is the machine's architecture, as profiles call it. */
export function compileSeccomp(seccomp: Seccomp, native: string): CompiledFilter {
  checkLoadable(seccomp);
  const rules = collectRules(seccomp);
  const architectures = architecturesOf(seccomp, native);
  const assembler = createAssembler();
  let start: Target = { value: RETURN.KILL_PROCESS };
  // the last block written is the first one run: the machine's own
  for (const each of architectures.toReversed()) {
    const block = assembler.load(NUMBER, searchNumber(assembler, answers(each, rules)));
    start = assembler.compare(COMPARE.EQ, each.audit, block, start);
  }
  return {
    program: assembler.assemble(assembler.load(ARCHITECTURE, start)),
    unknown: [...rules.byName.keys()].filter((name) => !architectures.some((each) => hasCall(each, name))),
  };
}

function hasCall({ name: architectureName, calls }: Architecture, name: string): boolean {
  return calls.has(name) || (architectureName === 'SCMP_ARCH_X86' && isMultiplexed(name));
}

/** setpriv loads the filter with SPEC_ALLOW, for a process with one thread; other flags it cannot set. */
function checkLoadable(seccomp: Seccomp): void {
  if (seccomp.listenerPath !== undefined)
    throw new OciError('UNSUPPORTED', 'seccomp: listenerPath needs a listener process, and there is none', {
      hint: 'Remove it from the profile.',
    });
  for (const flag of seccomp.flags ?? [])
    if (flag !== 'SECCOMP_FILTER_FLAG_SPEC_ALLOW' && flag !== 'SECCOMP_FILTER_FLAG_TSYNC')
      throw new OciError('UNSUPPORTED', `seccomp: the flag ${quote(flag)} cannot be set`, {
        hint: 'Remove it from the profile.',
      });
}

/** The machine's own, and of those that the profile lists the ones that the machine can run. */
function architecturesOf(seccomp: Seccomp, native: string): Architecture[] {
  const own = architecture(native);
  if (own === undefined)
    throw new OciError('UNSUPPORTED', `seccomp: no filter can be compiled for ${quote(native)}`, {
      hint: 'Run without one: --seccomp unconfined.',
    });
  for (const name of seccomp.architectures ?? [])
    if (!/^SCMP_ARCH_[A-Z0-9_]+$/.test(name)) throw badProfile(`${quote(name)} is not an architecture`);
  return [
    own,
    ...own.compatible
      .filter((name) => seccomp.architectures?.includes(name))
      .flatMap((name) => architecture(name) ?? []),
  ];
}

/** What a range of numbers leads to: a value at once, or rules to try and the value after them. */
interface Range {
  first: number;
  rules: readonly Rule[];
  otherwise: number;
  bits: 32 | 64;
}

/** All numbers from 0 on as ranges with the same answer. */
function answers(each: Architecture, rules: Rules): Range[] {
  const byNumber = new Map<number, readonly Rule[]>();
  for (const [name, list] of rules.byName) {
    const number = each.calls.get(name);
    if (number !== undefined && !byNumber.has(number)) byNumber.set(number, list);
  }
  if (each.name === 'SCMP_ARCH_X86')
    for (const [name, list] of multiplexedRules(rules)) {
      const number = each.calls.get(name)!;
      const direct = byNumber.get(number) ?? [];
      if (direct[0]?.conditions.length !== 0) byNumber.set(number, [...direct, ...list]);
    }
  const ranges: Range[] = [];
  const add = (first: number, list: readonly Rule[], otherwise: number) => {
    const only = list[0]?.conditions.length === 0 ? list[0] : undefined;
    const range = { first, rules: only ? [] : list, otherwise: only?.action ?? otherwise, bits: each.bits };
    const last = ranges.at(-1);
    if (last?.rules.length === 0 && range.rules.length === 0 && last.otherwise === range.otherwise) return;
    ranges.push(range);
  };
  let next = 0;
  for (const [number, list] of [...byNumber].sort((a, b) => a[0] - b[0])) {
    if (number > next) add(next, [], rules.defaultAction);
    add(number, list, rules.defaultAction);
    next = number + 1;
  }
  add(next, [], rules.defaultAction);
  if (each.limit !== undefined) add(each.limit, [], RETURN.ERRNO + ENOSYS);
  return ranges;
}

/** The number is loaded: finds its range by halves. */
function searchNumber(assembler: Assembler, ranges: readonly Range[]): Target {
  if (ranges.length === 1) return tryRules(assembler, ranges[0]!);
  const half = ranges.length >> 1;
  const upper = searchNumber(assembler, ranges.slice(half));
  const lower = searchNumber(assembler, ranges.slice(0, half));
  return assembler.compare(COMPARE.GE, ranges[half]!.first, upper, lower);
}

function tryRules(assembler: Assembler, { rules, otherwise, bits }: Range): Target {
  let next: Target = { value: otherwise };
  for (const { action, conditions } of rules.toReversed()) {
    let matched: Target = { value: action };
    for (const condition of conditions.toReversed())
      matched = test(assembler, condition, bits, matched, next);
    next = matched;
  }
  return next;
}

/** A 64-bit comparison in 32-bit halves. A 32-bit program's arguments have no upper half. */
function test(assembler: Assembler, condition: Condition, bits: 32 | 64, yes: Target, no: Target): Target {
  const { index, op, value, valueTwo } = condition;
  const low = ARGUMENTS + index * 8;
  const parts = (word: bigint) => [Number(word >> 32n), Number(word & 0xffff_ffffn)] as const;
  const compare = (offset: number, code: number, k: number, ifTrue: Target, ifFalse: Target) =>
    assembler.load(offset, assembler.compare(code, k, ifTrue, ifFalse));
  const [high, lowWord] = parts(value);

  const equal = (ifTrue: Target, ifFalse: Target): Target => {
    const lower = compare(low, COMPARE.EQ, lowWord, ifTrue, ifFalse);
    return bits === 32 ? lower : compare(low + 4, COMPARE.EQ, high, lower, ifFalse);
  };
  const ordered = (code: number, ifTrue: Target, ifFalse: Target): Target => {
    const lower = compare(low, code, lowWord, ifTrue, ifFalse);
    if (bits === 32) return lower;
    const sameHigh = assembler.compare(COMPARE.EQ, high, lower, ifFalse);
    return assembler.load(low + 4, assembler.compare(COMPARE.GT, high, ifTrue, sameHigh));
  };
  const masked = (): Target => {
    const [highMask, lowMask] = parts(value);
    const [wantHigh, wantLow] = parts(valueTwo & value);
    const part = (offset: number, mask: number, want: number, next: Target) =>
      assembler.load(offset, assembler.and(mask, assembler.compare(COMPARE.EQ, want, next, no)));
    const lower = lowMask === 0 ? yes : part(low, lowMask, wantLow, yes);
    return bits === 32 || highMask === 0 ? lower : part(low + 4, highMask, wantHigh, lower);
  };

  switch (op) {
    case 'SCMP_CMP_EQ':
      return equal(yes, no);
    case 'SCMP_CMP_NE':
      return equal(no, yes);
    case 'SCMP_CMP_GT':
      return ordered(COMPARE.GT, yes, no);
    case 'SCMP_CMP_GE':
      return ordered(COMPARE.GE, yes, no);
    case 'SCMP_CMP_LE':
      return ordered(COMPARE.GT, no, yes);
    case 'SCMP_CMP_LT':
      return ordered(COMPARE.GE, no, yes);
    case 'SCMP_CMP_MASKED_EQ':
      return masked();
  }
}
