/** ocictl: everything about images and containers but pulling and running; ocictl(1). */
import { containerCommands, endOptionsOfExec } from './container-commands.ts';
import { copyCommand } from './copy-command.ts';
import { imageCommands } from './image-commands.ts';
import { loginCommands } from './login-commands.ts';
import { runProgram } from './main.ts';
import { mountCommands } from './mount-commands.ts';
import { commonOptions } from './options.ts';
import { statsCommand } from './stats-command.ts';
import { storeCommands } from './store-commands.ts';
import { updateCommand } from './update-command.ts';
import { volumeCommands } from './volume-commands.ts';

void runProgram(
  'ocictl',
  (program) => {
    program.description('Look after images and containers');
    commonOptions(program);
    imageCommands(program);
    mountCommands(program);
    containerCommands(program);
    statsCommand(program);
    copyCommand(program);
    updateCommand(program);
    storeCommands(program);
    volumeCommands(program);
    loginCommands(program);
  },
  endOptionsOfExec(process.argv.slice(2)),
);
