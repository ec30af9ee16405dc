/** ocictl: everything about images and containers but pulling and running; ocictl(1). */
import type { Command } from 'commander';
import { containerCommands } from './container-commands.ts';
import { copyCommand } from './copy-command.ts';
import { diffCommand } from './diff-command.ts';
import { endOptionsOfExec, skipOptions } from './exec-words.ts';
import { imageCommands } from './image-commands.ts';
import { importCommand } from './import-command.ts';
import { loginCommands } from './login-commands.ts';
import { runProgram } from './main.ts';
import { mountCommands } from './mount-commands.ts';
import { commonOptions } from './options.ts';
import { serviceCommands } from './service-commands.ts';
import { signCommands } from './sign-commands.ts';
import { statsCommand } from './stats-command.ts';
import { storeCommands } from './store-commands.ts';
import { updateCommand } from './update-command.ts';
import { volumeCommands } from './volume-commands.ts';

export function buildOcictl(program: Command): void {
  program.description('Look after images and containers');
  commonOptions(program);
  program.commandsGroup('Images:');
  imageCommands(program);
  diffCommand(program);
  mountCommands(program);
  signCommands(program);
  program.commandsGroup('Containers:');
  containerCommands(program);
  statsCommand(program);
  copyCommand(program);
  updateCommand(program);
  program.commandsGroup('Installed services:');
  serviceCommands(program);
  importCommand(program);
  program.commandsGroup('Store and registries:');
  storeCommands(program);
  volumeCommands(program);
  loginCommands(program);
}

async function run(argv: string[]): Promise<void> {
  const command = skipOptions(argv, 0);
  if (argv[command] !== 'install') return runProgram('ocictl', buildOcictl, endOptionsOfExec(argv));
  // it has the options of oci-run, whose -v and --wait are others than ocictl's
  const { buildInstall, endOptionsAtCommand } = await import('./install-command.ts');
  const words = [...argv.slice(0, command), ...argv.slice(command + 1)];
  return runProgram('ocictl install', buildInstall, endOptionsAtCommand(words));
}

if (import.meta.main) void run(process.argv.slice(2));
