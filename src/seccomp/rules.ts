/**
 * The rules of a profile, by system call. What several rules for one call mean is as in libseccomp, which the other
 * runtimes use: the first one without conditions decides alone, wherever it stands; else the conditions are tried in
 * the profile's order; rules that do what happens anyway do not count.
 */
import { quote } from '../oci/errors.ts';
import type { Seccomp } from '../oci/runtime-spec.ts';
import { badProfile, returnValue } from './actions.ts';

type SeccompRule = NonNullable<Seccomp['syscalls']>[number];

export interface Condition {
  /** Argument 0 to 5. */
  index: number;
  op: keyof typeof OPERATORS;
  value: bigint;
  /** For MASKED_EQ, whose `value` is the mask. */
  valueTwo: bigint;
}

export interface Rule {
  /** SECCOMP_RET_* with its data. */
  action: number;
  /** All must hold. */
  conditions: Condition[];
}

/** Of a whole profile: the default and, by name, the rules that count. A list with one unconditional rule has no other. */
export interface Rules {
  defaultAction: number;
  byName: ReadonlyMap<string, readonly Rule[]>;
}

const OPERATORS = {
  SCMP_CMP_NE: true,
  SCMP_CMP_LT: true,
  SCMP_CMP_LE: true,
  SCMP_CMP_EQ: true,
  SCMP_CMP_GE: true,
  SCMP_CMP_GT: true,
  SCMP_CMP_MASKED_EQ: true,
};

const ARGUMENTS = 6;
const RULES_MAX = 10_000;

export function collectRules(seccomp: Seccomp): Rules {
  const defaultAction = returnValue(seccomp.defaultAction, seccomp.defaultErrnoRet);
  const byName = new Map<string, Rule[]>();
  let count = 0;
  for (const entry of seccomp.syscalls ?? []) {
    const action = returnValue(entry.action, entry.errnoRet);
    const alternatives = conditionsOf(entry);
    if (action === defaultAction) continue;
    for (const name of entry.names)
      for (const conditions of alternatives) {
        count += 1;
        if (count > RULES_MAX) throw badProfile(`it has more than ${RULES_MAX} rules`);
        const rules = byName.get(name) ?? [];
        byName.set(name, rules);
        if (rules[0]?.conditions.length === 0) continue;
        if (conditions.length === 0) rules.length = 0;
        rules.push({ action, conditions });
      }
  }
  return { defaultAction, byName };
}

/** Conditions on different arguments belong together; with two on one argument, each is a rule of its own (as in runc). */
function conditionsOf(entry: SeccompRule): Condition[][] {
  const conditions = (entry.args ?? []).map((arg): Condition => {
    if (arg.index < 0 || arg.index >= ARGUMENTS)
      throw badProfile(`argument index ${arg.index} is not 0 to 5`);
    if (!Object.hasOwn(OPERATORS, arg.op)) throw badProfile(`${quote(arg.op)} is not an operator`);
    return {
      index: arg.index,
      op: arg.op as keyof typeof OPERATORS,
      value: word(arg.value),
      valueTwo: word(arg.valueTwo ?? 0),
    };
  });
  const indexes = new Set(conditions.map(({ index }) => index));
  return indexes.size === conditions.length ? [conditions] : conditions.map((condition) => [condition]);
}

/** A 64-bit value that came as a JavaScript number; 2^64 is what JSON.parse() makes of 2^64-1. */
function word(value: number): bigint {
  if (value === 2 ** 64) return 2n ** 64n - 1n;
  if (!Number.isSafeInteger(value) || value < 0)
    throw badProfile(`${value} as the value of an argument is not exact: 0 to 2^53-1, or 2^64-1, are`);
  return BigInt(value);
}
