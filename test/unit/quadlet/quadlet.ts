/** Quadlet files of tests, from their texts. */
import { translateContainer } from '../../../src/quadlet/container.ts';
import { parseFileName, type QuadletFile } from '../../../src/quadlet/quadlet-file.ts';
import { parseUnitText } from '../../../src/quadlet/unit-syntax.ts';

export function quadletFile(path: string, text: string): QuadletFile {
  return { path, directory: '/etc/q', ...parseFileName(path), unit: parseUnitText(text, path) };
}

/** What is in /etc/credstore and its like. */
const CREDENTIALS: Readonly<Record<string, { path: string; encrypted: boolean }>> = {
  token: { path: '/etc/credstore/token', encrypted: false },
  sealed: { path: '/etc/credstore.encrypted/sealed', encrypted: true },
};

/** Words and complaints of a .container file with these lines in [Container] (from line 3 on; 2 is Image=). */
export function container(lines: string, files: readonly QuadletFile[] = [], name = 'web.container') {
  const file = quadletFile(name, `[Container]\nImage=img\n${lines}\n`);
  const { parts, complaints, ...rest } = translateContainer(file, [file, ...files], {
    hostName: 'host',
    credentialFile: (name) => CREDENTIALS[name],
  });
  return { ...rest, words: parts.flatMap(({ words }) => words), complaints };
}
