/** `npm test`: everything that must hold, but for the slow test:vm. Stops at the first part that fails. */
import { check } from './check.ts';
import { main } from './step.ts';
import { testSystem } from './test-system.ts';
import { testUnits } from './test-unit.ts';

await main(async () => {
  await check();
  await testUnits();
  await testSystem();
});
