/** Words of POSIX shell, for the scripts of the setup unit. */

/** One word, whatever is in it. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export function shellWords(words: readonly string[]): string {
  return words.map(shellWord).join(' ');
}

/** A field of fstab(5) as one word. */
export function fstabWord(text: string): string {
  return shellWord(text.replace(/[\\\s#]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`));
}
