/**
 * To be imported before a test file (node --import): when a test fails, shows what the journals of its machines have of
 * that test, before the file's own hooks clear anything away.
 */
import { afterEach, beforeEach } from 'node:test';
import { machineJournal } from './journal.ts';
import { openMachines } from './machine.ts';

const began = new WeakMap<object, number>();

beforeEach((t) => void began.set(t, Date.now()));
afterEach(async (t) => {
  const { name, passed } = t as { name: string; passed?: boolean }; // not in @types/node yet
  if (passed) return;
  for (const machine of openMachines.values())
    console.log(`--- journal of '${name}':\n${await machineJournal(machine, began.get(t) ?? 0)}---`);
});
