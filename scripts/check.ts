/** `npm run check`: types, lint and format, import directions. */
import { command, main, step } from './step.ts';

export async function check(): Promise<void> {
  await step('Checking types', () => command(['tsc', '-p', '.']));
  await step('Checking lint and format', () =>
    command(['biome', 'ci', '--colors=off', '--error-on-warnings']),
  );
  await step('Checking import directions', () => command(['node', '--test', 'test/unit/directions.test.ts']));
}

if (import.meta.main) await main(check);
