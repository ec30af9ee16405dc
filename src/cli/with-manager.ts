/** What the actions of ocictl on running containers share: a connection to systemd for as long as one lasts. */
import type { Command } from 'commander';
import type { Manager } from '../systemd/manager.ts';
import { outputFor } from './main.ts';
import { type CommonOptions, placesFrom } from './options.ts';
import type { Output } from './output.ts';

export interface Context<O> {
  readonly options: O;
  readonly output: Output;
  readonly runRoot: string;
  readonly manager: Manager;
}

/** Connects to systemd for one action; commander hands that its arguments, its options and the command. */
export function withManager<O extends CommonOptions, A extends unknown[]>(
  action: (context: Context<O>, ...args: A) => Promise<void>,
) {
  return async (...given: unknown[]): Promise<void> => {
    const command = given.at(-1) as Command;
    const options = command.optsWithGlobals<O>();
    const { connectManager } = await import('../systemd/manager.ts');
    const [manager, { runRoot }] = await Promise.all([connectManager(), placesFrom(options)]);
    try {
      await action({ options, output: outputFor(command), runRoot, manager }, ...(given.slice(0, -2) as A));
    } finally {
      manager.close();
    }
  };
}
