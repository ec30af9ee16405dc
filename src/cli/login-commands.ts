/** ocictl login, logout: credentials for registries, where podman and oci-pull look for them. */
import type { Command } from 'commander';
import { OciError, quote } from '../oci/errors.ts';
import { formatRegistry, parseRegistry } from '../oci/reference.ts';
import { outputFor } from './main.ts';
import { authfileOption, type CommonOptions, tlsOptions, waitingFrom } from './options.ts';
import { askLine, askSecret, hasTerminal, readStdin } from './prompt.ts';

interface AuthOptions extends CommonOptions {
  readonly authfile?: string;
}

interface LogoutOptions extends AuthOptions {
  readonly all?: boolean;
}

interface LoginOptions extends AuthOptions {
  readonly username?: string;
  readonly password?: string;
  readonly passwordStdin?: boolean;
  readonly certDir?: string;
  readonly tlsVerify?: boolean;
}

export function loginCommands(program: Command): void {
  const loginCommand = program
    .command('login <registry>')
    .description('try credentials for a registry, or REGISTRY/NAMESPACE, and keep them')
    .option('-u, --username <user>', 'user name (default: ask)')
    .option('-p, --password <password>', 'password; others on this machine can see it here')
    .option('--password-stdin', 'read the password from standard input');
  authfileOption(loginCommand, 'keep them in this file');
  tlsOptions(loginCommand).action((registry: string, _options: unknown, command: Command) =>
    login(registry, command),
  );
  authfileOption(
    program
      .command('logout [registry]')
      .description('forget the credentials for a registry or REGISTRY/NAMESPACE')
      .option('-a, --all', 'forget all credentials of the file and its helpers'),
    'forget those of this file',
  ).action((registry: string | undefined, _options: unknown, command: Command) => logout(registry, command));
}

async function login(registry: string, command: Command): Promise<void> {
  const options = command.optsWithGlobals<LoginOptions>();
  const output = outputFor(command);
  const place = parseRegistry(registry);
  const name = formatRegistry(place);
  const story = await import('../registry/login.ts');
  if (options.password !== undefined)
    output.note('--password shows the password to everybody on this machine: use --password-stdin');
  const credentials = await credentialsFrom(options);
  const { path, helper } = await story.login(place, credentials, {
    authfile: options.authfile,
    certDir: options.certDir,
    tlsVerify: options.tlsVerify,
    env: process.env,
    root: '',
    waiting: waitingFrom(options, output),
    notice: output.note,
  });
  if (output.json) output.value({ registry: name, username: credentials.username, path, helper });
  else
    output.note(
      `logged in to ${name}: kept ${helper === undefined ? `in ${path}` : `by docker-credential-${helper}`}`,
    );
}

async function credentialsFrom(options: LoginOptions): Promise<{ username: string; password: string }> {
  if (options.password !== undefined && options.passwordStdin)
    throw new OciError('USAGE', '--password and --password-stdin exclude each other', {
      hint: 'Give --password-stdin alone.',
    });
  const canAsk = hasTerminal() && !options.passwordStdin;
  const { username = canAsk ? await askLine('User name: ') : undefined } = options;
  if (username === undefined)
    throw new OciError('USAGE', 'there is no user name, and no terminal to ask for it', {
      hint: 'Give --username.',
    });
  if (options.password !== undefined) return { username, password: options.password };
  if (options.passwordStdin) return { username, password: await readStdin() };
  if (!canAsk)
    throw new OciError('USAGE', 'there is no password, and no terminal to ask for it', {
      hint: 'Give --password-stdin, with the password on standard input.',
    });
  return { username, password: await askSecret('Password: ') };
}

async function logout(registry: string | undefined, command: Command): Promise<void> {
  const options = command.optsWithGlobals<LogoutOptions>();
  const output = outputFor(command);
  if ((registry === undefined) !== (options.all === true))
    throw new OciError('USAGE', 'logout wants a registry, or --all', { hint: 'Give one of the two.' });
  const name = registry === undefined ? undefined : formatRegistry(parseRegistry(registry));
  const [files, { placesOfCredentials }, { loadRegistriesConf }] = await Promise.all([
    import('../registry/auth-file.ts'),
    import('../registry/load-credentials.ts'),
    import('../registry/load-registries-conf.ts'),
  ]);
  const system = { env: process.env, root: '' };
  const { credentialHelpers } = loadRegistriesConf(system);
  const place = { authfile: options.authfile, credentialHelpers, ...system };
  const waiting = waitingFrom(options, output);
  if (name === undefined) {
    const registries = await files.eraseAllCredentials({ ...place, waiting });
    if (output.json) output.value({ registries });
    else if (registries.length === 0) output.note('there were no credentials');
    else output.note(`logged out of ${registries.map(quote).join(', ')}`);
    return;
  }
  const erased = await files.eraseCredentials(name, { ...place, waiting });
  const left = await placesOfCredentials(name, { ...place, warn: output.note });
  const elsewhere = left.length === 0 ? '' : `; there are some in ${left.map(quote).join(', ')}`;
  if (erased.length === 0)
    throw new OciError(
      'INPUT_NOT_FOUND',
      `no credentials for ${quote(name)} in ${quote(files.authFilePath(place))}${elsewhere}`,
      {
        hint:
          left.length === 0
            ? 'Check the name of the registry.'
            : `Run: ocictl logout --authfile ${left[0]} ${name}`,
      },
    );
  if (output.json) output.value({ registry: name, erased, left });
  else output.note(`logged out of ${name}${elsewhere}`);
}
