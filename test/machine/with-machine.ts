/** A machine for the length of one piece of work: however that ends, also by Ctrl-C, the machine is powered off. */
import { constants } from 'node:os';
import { step } from '../../scripts/step.ts';
import { type BootOptions, bootMachine, type Machine, openMachines, prepareMachine } from './machine.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
let working = 0;

/** `say`: how it tells of booting and powering off. */
export async function withMachine<T>(
  options: BootOptions,
  work: (machine: Machine) => Promise<T>,
  say: typeof step = step,
): Promise<T> {
  await prepareMachine(options);
  const machine = await say("Booting the test machine's systemd", () => bootMachine(options));
  if (working++ === 0) for (const signal of SIGNALS) process.once(signal, stopAll);
  try {
    return await work(machine);
  } finally {
    if (--working === 0) for (const signal of SIGNALS) process.off(signal, stopAll);
    await say('Powering off the test machine', () => machine.stop());
  }
}

async function stopAll(signal: NodeJS.Signals): Promise<void> {
  console.log(`\n${signal}: powering off the test machine`);
  await Promise.all([...openMachines.values()].map((machine) => machine.stop()));
  process.exit(128 + constants.signals[signal]);
}
