/** A machine for the length of one piece of work: however that ends, also by Ctrl-C, the machine is powered off. */
import { constants } from 'node:os';
import { step } from '../../scripts/step.ts';
import { type BootOptions, bootMachine, type Machine, prepareMachine } from './machine.ts';

export async function withMachine<T>(
  options: BootOptions,
  work: (machine: Machine) => Promise<T>,
): Promise<T> {
  await prepareMachine(options);
  const machine = await step("Booting the test machine's systemd", () => bootMachine(options));
  const stopOnSignal = async (signal: NodeJS.Signals) => {
    console.log(`\n${signal}: powering off the test machine`);
    await machine.stop();
    process.exit(128 + constants.signals[signal]);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.once(signal, stopOnSignal);
  try {
    return await work(machine);
  } finally {
    for (const signal of signals) process.off(signal, stopOnSignal);
    await step('Powering off the test machine', () => machine.stop());
  }
}
