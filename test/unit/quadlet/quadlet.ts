/** Quadlet files of tests, from their texts. */
import { translateContainer } from '../../../src/quadlet/container.ts';
import { parseFileName, type QuadletFile } from '../../../src/quadlet/quadlet-file.ts';
import { parseUnitText } from '../../../src/quadlet/unit-syntax.ts';

export function quadletFile(path: string, text: string): QuadletFile {
  return { path, directory: '/etc/q', ...parseFileName(path), unit: parseUnitText(text, path) };
}

/** Words and complaints of a .container file with these lines in [Container] (from line 3 on; 2 is Image=). */
export function container(lines: string, files: readonly QuadletFile[] = [], name = 'web.container') {
  const file = quadletFile(name, `[Container]\nImage=img\n${lines}\n`);
  const { parts, complaints, ...rest } = translateContainer(file, [file, ...files], 'host');
  return { ...rest, words: parts.flatMap(({ words }) => words), complaints };
}
