/** ocictl: everything about images and containers but pulling and running; ocictl(1). */
import { imageCommands } from './image-commands.ts';
import { runProgram } from './main.ts';
import { mountCommands } from './mount-commands.ts';
import { commonOptions } from './options.ts';

await runProgram('ocictl', (program) => {
  program.description('Look after images and containers');
  commonOptions(program);
  imageCommands(program);
  mountCommands(program);
});
