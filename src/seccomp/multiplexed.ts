/**
 * socketcall(2) and ipc(2) of i386: one number for many calls, which also have numbers of their own. A rule for
 * `socket` must hold for both ways. The arguments of the call lie in memory there, where a filter cannot look: a
 * rule with conditions that allows does not allow them this way, one that refuses refuses them whatever they are.
 */
import { RETURN } from './actions.ts';
import type { Rule, Rules } from './rules.ts';

/** The calls by the value of the first argument, from 1 on (linux/net.h, linux/ipc.h). */
const MULTIPLEXED: Readonly<Record<string, readonly string[]>> = {
  socketcall: [
    ...['socket', 'bind', 'connect', 'listen', 'accept', 'getsockname', 'getpeername', 'socketpair', 'send'],
    ...[
      'recv',
      'sendto',
      'recvfrom',
      'shutdown',
      'setsockopt',
      'getsockopt',
      'sendmsg',
      'recvmsg',
      'accept4',
    ],
    ...['recvmmsg', 'sendmmsg'],
  ],
  ipc: [
    ...['semop', 'semget', 'semctl', 'semtimedop', '', '', '', '', '', ''],
    ...['msgsnd', 'msgrcv', 'msgget', 'msgctl', '', '', '', '', '', ''],
    ...['shmat', 'shmdt', 'shmget', 'shmctl'],
  ],
};
/** The upper half of ipc's first argument is a version. */
const SELECTOR_MASK = 0xffffn;

/** `socketcall` and `ipc` → rules that follow from those for the single calls. */
export function* multiplexedRules({ byName }: Rules): Generator<[name: string, rules: Rule[]]> {
  for (const [multiplexer, names] of Object.entries(MULTIPLEXED)) {
    const rules = names.flatMap((name, index): Rule[] => {
      const list = byName.get(name) ?? [];
      const rule = list.find(({ action, conditions }) => conditions.length === 0 || !allows(action));
      const selector = BigInt(index + 1);
      return rule === undefined
        ? []
        : [
            {
              action: rule.action,
              conditions: [{ index: 0, op: 'SCMP_CMP_MASKED_EQ', value: SELECTOR_MASK, valueTwo: selector }],
            },
          ];
    });
    if (rules.length > 0) yield [multiplexer, rules];
  }
}

export function isMultiplexed(name: string): boolean {
  return Object.values(MULTIPLEXED).some((names) => names.includes(name));
}

function allows(action: number): boolean {
  return action === RETURN.ALLOW || action === RETURN.LOG;
}
