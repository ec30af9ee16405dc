/**
 * Completions of bash, zsh and fish, from what commander knows of the programs: options, commands, and what their
 * arguments are. Written to dist/completions by the build; a test completes with each shell.
 *
 * What an argument is follows from its placeholder: <image>, <unit>, <file>, …. Names of images, containers, services
 * and volumes come from ocictl; only what is plainly a name is offered, because shells expand what they are given.
 */
import { Command, type Option } from 'commander';
import { buildInstall } from '../src/cli/install-command.ts';
import { buildPull } from '../src/cli/oci-pull.ts';
import { buildRun } from '../src/cli/oci-run.ts';
import { buildOcictl } from '../src/cli/ocictl.ts';

export interface OptionWords {
  /** `--env`, `-e`. */
  readonly names: readonly string[];
  readonly description: string;
  /** undefined: it takes no value. */
  readonly value?: Kind | readonly string[];
}

export interface CommandWords {
  /** Empty for a program; `volume rm`. */
  readonly path: readonly string[];
  readonly description: string;
  readonly options: readonly OptionWords[];
  /** Words that go on: sub-commands. */
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly argument: Kind;
}

/** What a word may be. */
export type Kind = 'any' | 'file' | 'directory' | 'image' | 'unit' | 'service' | 'volume';

const SERVICE_COMMANDS = new Set(['rollback', 'versions', 'uninstall', 'update']);

/** A program and its commands. */
export function wordsOf(program: Command): CommandWords[] {
  return walk(program, []);
}

function walk(
  command: Command,
  path: readonly string[],
  inherited: readonly OptionWords[] = [],
): CommandWords[] {
  const own = [...command.options.filter(isOffered).map(optionWords), HELP];
  const options = [
    ...own,
    ...inherited.filter(({ names }) => !own.some((each) => each.names[0] === names[0])),
  ];
  const below = command.commands.filter((each) => each.name() !== 'help');
  const [argument] = command.registeredArguments;
  return [
    {
      path,
      description: command.description(),
      options,
      commands: below.map((each) => ({ name: each.name(), description: each.description() })),
      argument: argumentKind(argument?.name() ?? '', path),
    },
    ...below.flatMap((each) =>
      each.name() === 'install' && path.length === 0
        ? walk(built('install', buildInstall), ['install'])
        : walk(each, [...path, each.name()], options),
    ),
  ];
}

/** --notify=healthy is the word --notify with a value that it may have. */
function isOffered({ hidden, long }: Option): boolean {
  return !hidden && !long?.includes('=');
}

const HELP: OptionWords = { names: ['--help', '-h'], description: 'display help' };

function optionWords({ long, short, description, required, flags, argChoices }: Option): OptionWords {
  const names = [long, short].filter((name): name is string => typeof name === 'string');
  // --net, --network: commander calls the first of two long ones short
  return {
    names,
    description,
    ...(required ? { value: argChoices ?? optionKind(/<([^>]*)>/.exec(flags)?.[1] ?? '', long ?? '') } : {}),
  };
}

function optionKind(placeholder: string, long: string): Kind {
  if (long === '--network') return 'any';
  if (/^(file|default\|unconfined\|file)$/.test(placeholder)) return 'file';
  if (/^(dir|directory)$/.test(placeholder)) return long === '--workdir' ? 'any' : 'directory';
  if (placeholder === 'image') return 'image';
  return 'any';
}

function argumentKind(name: string, path: readonly string[]): Kind {
  if (name === 'image') return 'image';
  if (name === 'unit') return 'unit';
  if (name === 'file') return 'file';
  if (name === 'name' && path[0] === 'volume') return 'volume';
  if (name === 'name' && SERVICE_COMMANDS.has(path[0] ?? '')) return 'service';
  // cp has UNIT:PATH and paths
  return path[0] === 'cp' ? 'file' : 'any';
}

function built(name: string, build: (program: Command) => void): Command {
  const program = new Command(name).version('', '--version');
  build(program);
  return program;
}

/** Program → its commands, the program itself first. */
export const PROGRAMS: Readonly<Record<string, readonly CommandWords[]>> = {
  'oci-pull': wordsOf(built('oci-pull', buildPull)),
  'oci-run': wordsOf(built('oci-run', buildRun)),
  ocictl: wordsOf(built('ocictl', buildOcictl)),
};

/** Shell commands that print names, one a line. */
const SOURCES: Partial<Record<Kind, string>> = {
  image: `ocictl images --json 2>/dev/null | sed -n '/"names": \\[/,/\\]/s/^ *"\\([^"]*\\)",*$/\\1/p'`,
  unit: 'ocictl ps --quiet 2>/dev/null',
  service: `ocictl versions 2>/dev/null | sed '1d; s/ .*//'`,
  volume: `ocictl volume ls 2>/dev/null | sed '1d; s/ .*//'`,
};
const PLAIN = "grep -x '[A-Za-z0-9][A-Za-z0-9._/@:+-]*'";

const id = (words: readonly string[]) => words.join('_').replaceAll('-', '_');
const single = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
const valued = ({ options }: CommandWords) => options.filter(({ value }) => value !== undefined);

/** FILE → text. */
export function completionFiles(): Map<string, string> {
  const files = new Map<string, string>();
  for (const [program, commands] of Object.entries(PROGRAMS)) {
    files.set(`bash/${program}`, bash(program, commands));
    files.set(`zsh/_${program}`, zsh(program, commands));
    files.set(`fish/${program}.fish`, fish(program, commands));
  }
  return files;
}

function bash(program: string, commands: readonly CommandWords[]): string {
  const name = `_${id([program])}`;
  const kindOf = (kind: Kind) =>
    ({
      file: 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))',
      directory: 'compopt -o filenames; COMPREPLY=($(compgen -d -- "$cur"))',
      any: ':',
    })[kind as string] ?? `${name}_names "$(${SOURCES[kind]} | ${PLAIN})"`;
  const cases = commands.map((command) => {
    const values = valued(command).map(({ names, value }) => {
      const what = typeof value === 'string' ? kindOf(value) : `${name}_names "${value!.join(' ')}"`;
      return `      ${names.join('|')}) ${what}; return ;;`;
    });
    const words = command.options.flatMap(({ names }) => names.filter((each) => each.startsWith('--')));
    return `  ${single(command.path.join(' '))})
    case $prev in
${values.join('\n')}
    esac
    if [[ $cur == -* ]]; then ${name}_names "${words.join(' ')}"
    else ${command.commands.length > 0 ? `${name}_names "${command.commands.map((each) => each.name).join(' ')}"` : kindOf(command.argument)}
    fi ;;`;
  });
  const withValue = [
    ...new Set(commands.flatMap((command) => valued(command).flatMap(({ names }) => names))),
  ];
  const paths = commands.filter(({ path }) => path.length > 0).map(({ path }) => single(path.join(' ')));
  return `# bash completion of ${program}(1), made by scripts/completions.ts
${name}_names() {
  COMPREPLY=($(compgen -W "$1" -- "$cur"))
  # what is before the last colon is typed already, where bash ends words at colons
  if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then COMPREPLY=("\${COMPREPLY[@]#"\${cur%:*}:"}"); fi
}
${name}() {
  local cur= prev= before= word path= skip= words=() at
  # bash ends words at = and : too; they belong together
  for ((at = 1; at <= COMP_CWORD; at++)); do
    word=\${COMP_WORDS[at]}
    if ((\${#words[@]})) && [[ $word == : || $before == : ]]; then words[-1]+=$word
    elif [[ $word != = ]]; then words+=("$word")
    elif ((at == COMP_CWORD)); then words+=(''); fi
    before=$word
  done
  ((\${#words[@]} > 0)) && cur=\${words[-1]}
  ((\${#words[@]} > 1)) && prev=\${words[-2]}
  for word in "\${words[@]:0:\${#words[@]}-1}"; do
    if [[ $skip ]]; then skip=; continue; fi
    case $word in
      ${withValue.join('|')}) skip=1 ;;
      -*) ;;
      *) case "\${path:+$path }$word" in
        ${paths.length > 0 ? paths.join('|') : "''"}) path="\${path:+$path }$word" ;;
      esac ;;
    esac
  done
  COMPREPLY=()
  case $path in
${cases.join('\n')}
  esac
}
complete -o bashdefault -F ${name} ${program}
`;
}

function zsh(program: string, commands: readonly CommandWords[]): string {
  const text = (words: string) => words.replace(/[[\]\\:]/g, '\\$&').replaceAll("'", `'\\''`);
  const name = `_${program}`;
  const action = (value: Kind | readonly string[]) =>
    typeof value !== 'string'
      ? `(${value.join(' ')})`
      : value === 'file'
        ? '_files'
        : value === 'directory'
          ? '_files -/'
          : value === 'any'
            ? ' '
            : `${name}_names_${value}`;
  const functions = commands.map((command) => {
    const specs = command.options.flatMap(({ names, description, value }) =>
      names.map((each) => {
        const takes = value === undefined ? '' : each.startsWith('--') ? '=' : '+';
        return `'*${each}${takes}[${text(description)}]${value === undefined ? '' : `:value:${action(value)}`}'`;
      }),
    );
    const rest =
      command.commands.length > 0
        ? [
            `'1:command:(( ${command.commands.map((each) => `${each.name}\\:"${text(each.description).replaceAll('"', '')}"`).join(' ')} ))'`,
            `'*::argument:->command'`,
          ]
        : [`'*:argument:${action(command.argument)}'`];
    const next = command.commands.map(
      ({ name: each }) => `    ${each}) ${name}_${id([...command.path, each])} ;;`,
    );
    return `${name}_${id(['command', ...command.path]).replace(/^command_(?=.)/, '') || 'command'}() {
  local state line context
  _arguments -s \\
    ${[...specs, ...rest].join(' \\\n    ')}
${next.length > 0 ? `  if [[ $state == command ]]; then case $line[1] in\n${next.join('\n')}\n  esac; fi\n` : ''}}`;
  });
  const sources = Object.entries(SOURCES).map(
    ([kind, source]) => `${name}_names_${kind}() {
  local -a names
  names=(\${(f)"$(${source} | ${PLAIN})"})
  compadd -a names
}`,
  );
  return `#compdef ${program}
# zsh completion of ${program}(1), made by scripts/completions.ts
${[...functions, ...sources].join('\n')}
${name}_command "$@"
`;
}

function fish(program: string, commands: readonly CommandWords[]): string {
  const lines = [`# fish completion of ${program}(1), made by scripts/completions.ts`];
  const source = (kind: Kind) => `(${SOURCES[kind]!} | ${PLAIN})`;
  // rm is a command, and one of volume
  const hiding = new Map(
    commands.flatMap(({ path: [above, sub] }) => (sub === undefined ? [] : [[sub, above]])),
  );
  for (const { path, options, commands: below, argument } of commands) {
    const [command, sub] = path;
    const conditions = [
      ...(command === undefined ? [] : [`__fish_seen_subcommand_from ${command}`]),
      ...(sub === undefined && hiding.has(command ?? '')
        ? [`not __fish_seen_subcommand_from ${hiding.get(command!)}`]
        : []),
      ...(sub === undefined ? [] : [`__fish_seen_subcommand_from ${sub}`]),
      ...(below.length > 0
        ? [`not __fish_seen_subcommand_from ${below.map(({ name }) => name).join(' ')}`]
        : []),
    ];
    const when = conditions.length > 0 ? ` -n ${fishWord(conditions.join('; and '))}` : '';
    for (const { names, description, value } of options) {
      const flags = names.map((each) =>
        each.startsWith('--') ? `-l ${each.slice(2)}` : `-s ${each.slice(1)}`,
      );
      const values =
        value === undefined
          ? ''
          : typeof value !== 'string'
            ? ` -x -a ${fishWord(value.join(' '))}`
            : value === 'file'
              ? ' -r -F'
              : value === 'directory'
                ? ' -x -a "(__fish_complete_directories)"'
                : value === 'any'
                  ? ' -x'
                  : ` -x -a ${fishWord(source(value))}`;
      lines.push(`complete -c ${program}${when} ${flags.join(' ')}${values} -d ${fishWord(description)}`);
    }
    for (const { name, description } of below)
      lines.push(`complete -c ${program}${when} -f -a ${name} -d ${fishWord(description)}`);
    if (below.length > 0) continue;
    if (argument === 'file') lines.push(`complete -c ${program}${when} -F`);
    else if (SOURCES[argument] === undefined) lines.push(`complete -c ${program}${when} -f`);
    else lines.push(`complete -c ${program}${when} -f -a ${fishWord(source(argument))}`);
  }
  return `${lines.join('\n')}\n`;
}

function fishWord(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
