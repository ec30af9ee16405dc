/** Where, on a command line of ocictl, its own options end; before commander sees it. */

/**
 * The words of `exec` after UNIT belong to the command, also those that look like options of ours: a `--` before
 * them says so to commander, whose own way would forbid `ocictl ps --json`.
 */
export function endOptionsOfExec(argv: string[]): string[] {
  const at = skipOptions(argv, 0);
  if (argv[at] !== 'exec') return argv;
  const unit = skipOptions(argv, at + 1);
  if (unit >= argv.length || argv[unit] === '--') return argv;
  return [...argv.slice(0, unit), '--', ...argv.slice(unit)];
}

/** The position of the first word from `from` on that is no option and no option's value. */
export function skipOptions(argv: readonly string[], from: number): number {
  let at = from;
  while (at < argv.length && argv[at] !== '--' && argv[at]!.startsWith('-'))
    at += takesValue(argv[at]!) ? 2 : 1;
  return at;
}

function takesValue(word: string): boolean {
  return /^(-[uew]|--(user|env|workdir|root|run-root|config))$/.test(word);
}
