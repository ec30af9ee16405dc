/** JSON that two programs could read in two ways, or that costs too much to read, in each document of an image. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { badImage, type Case, hostile, refused } from './harness.ts';
import type { Edit, ImageSpec } from './image.ts';

const DOCUMENTS: Record<string, (edit: Edit) => ImageSpec> = {
  'index.json': (index) => ({ index }),
  manifest: (manifest) => ({ manifest }),
  'image configuration': (config) => ({ config }),
};
const F = ['f "x"'];
/** The document as text, with something put in after its first brace. */
const begins =
  (insert: string): Edit =>
  (document) =>
    JSON.stringify(document).replace('{', `{${insert}`);
const around =
  (before: string | Buffer, after: string | Buffer): Edit =>
  (document) =>
    Buffer.concat([Buffer.from(before), Buffer.from(JSON.stringify(document)), Buffer.from(after)]);
const replaced =
  (text: string | Buffer): Edit =>
  () =>
    Buffer.from(text);
const nested = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;

/** The reason for the refusal, behind the name of the document; or undefined. */
const TRAPS: [trap: string, edit: Edit, reason: string | undefined][] = [
  ['a key twice', begins('"x":1,"x":1,'), "has the key 'x' twice in one object"],
  ['a key twice, once escaped', begins('"x":1,"\\u0078":1,'), "has the key 'x' twice in one object"],
  [
    'a key twice, deep inside',
    begins('"x":[{"y":{"z":1,"a":[{}],"z":2}}],'),
    "has the key 'z' twice in one object",
  ],
  [
    'a key twice, with control characters',
    begins('"\\u001b[2J":1,"\\u001b[2J":1,'),
    "has the key '\\x1b[2J' twice in one object",
  ],
  ['a key once in each of two objects', begins('"a":{"x":1},"b":{"x":1},"c":[{"x":1},{"x":1}],'), undefined],
  ['a key that is the value of another', begins('"a":"b","b":"a",'), undefined],
  ['keys that differ in case', begins('"SCHEMAVERSION":1,"Layers":[],"ROOTFS":{},'), undefined],
  ['__proto__', begins('"__proto__":{"schemaVersion":2},'), "has the forbidden key '__proto__'"],
  ['__proto__, escaped', begins('"\\u005f_proto__":{},'), "has the forbidden key '__proto__'"],
  ['__proto__, deep inside', begins('"x":[{"__proto__":1}],'), "has the forbidden key '__proto__'"],
  [
    'constructor, prototype, toString',
    begins('"constructor":{"prototype":{"x":1}},"prototype":1,"toString":1,"hasOwnProperty":1,'),
    undefined,
  ],
  ['60 levels', begins(`"x":${nested(60)},`), undefined],
  ['64 levels', begins(`"x":${nested(64)},`), 'is nested deeper than 64 levels'],
  ['10000 levels', begins(`"x":${nested(10000)},`), 'is nested deeper than 64 levels'],
  ['a million open brackets', replaced('['.repeat(1_000_000)), 'is nested deeper than 64 levels'],
  ['a million commas', begins(`"x":[${'0,'.repeat(1_000_000)}0],`), undefined],
  [
    'odd numbers',
    begins('"x":[1e400,-0,-1e-400,0.1e1,9007199254740993,123456789012345678901234567890],'),
    undefined,
  ],
  ['a string of a megabyte', begins(`"x":"${'\\u0041'.repeat(170_000)}",`), undefined],
  ['half of a surrogate pair', begins('"x":"\\ud800","y":"\\udc00\\ud800",'), undefined],
  ['a NUL in a string', begins('"x":"a\\u0000b",'), undefined],
  ['Infinity', begins('"x":Infinity,'), 'is not valid JSON'],
  ['NaN', begins('"x":NaN,'), 'is not valid JSON'],
  ['hexadecimal', begins('"x":0x10,'), 'is not valid JSON'],
  ['a leading zero', begins('"x":01,'), 'is not valid JSON'],
  ['a leading plus', begins('"x":+1,'), 'is not valid JSON'],
  ['single quotes', begins("'x':1,"), 'is not valid JSON'],
  ['a key without quotes', begins('x:1,'), 'is not valid JSON'],
  ['a comma too many', begins('"x":[1,],'), 'is not valid JSON'],
  ['a comment', begins('/* x */'), 'is not valid JSON'],
  ['a comment of one line', around('// x\n', ''), 'is not valid JSON'],
  ['a raw newline in a string', begins('"x":"a\nb",'), 'is not valid JSON'],
  ['an escape that there is not', begins('"x":"\\x41",'), 'is not valid JSON'],
  ['a byte order mark', around('\ufeff', ''), 'begins with a byte order mark'],
  ['UTF-16', replaced(Buffer.from('\ufeff{}', 'utf16le')), 'is not valid UTF-8'],
  ['a byte that is not UTF-8', begins('"x":"@",'), 'is not valid UTF-8'],
  ['an overlong coding', replaced(Buffer.from([0x7b, 0xc0, 0xa2, 0x7d])), 'is not valid UTF-8'],
  ['a surrogate in UTF-8', replaced(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])), 'is not valid UTF-8'],
  ['a NUL before it', around('\0', ''), 'is not valid JSON'],
  ['a NUL behind it', around('', '\0'), 'is not valid JSON'],
  ['something behind it', around('', 'x'), 'is not valid JSON'],
  ['a second document', around('', '\n{}'), 'is not valid JSON'],
  ['white space around it', around(' \t\r\n', '\n\n '), undefined],
  ['a form feed before it', around('\f', ''), 'is not valid JSON'],
  ['cut in the middle', (document) => JSON.stringify(document).slice(0, 40), 'is not valid JSON'],
  ['nothing', replaced(''), 'is not valid JSON'],
  ['white space alone', replaced('   '), 'is not valid JSON'],
  ...['null', '[]', '"x"', '1', 'true'].map((text): (typeof TRAPS)[number] => [
    `${text} for the document`,
    replaced(text),
    'is not an object',
  ]),
  ['HTML', replaced('<!DOCTYPE html><title>\x1b[31mLog in</title>'), 'is not valid JSON'],
];

for (const [what, spec] of Object.entries(DOCUMENTS))
  hostile(
    what,
    TRAPS.map(([trap, edit, reason]): Case => {
      // One that is not text is made of one that is.
      const broken: Edit = (document) => {
        const bytes = Buffer.from(edit(document) ?? '');
        const at = trap === 'a byte that is not UTF-8' ? bytes.indexOf('@') : -1;
        if (at >= 0) bytes[at] = 0xff;
        return bytes;
      };
      return [trap, spec(broken), reason === undefined ? F : badImage(`${what} ${reason}`)];
    }),
  );

const large = Buffer.from(`{"x":"${'x'.repeat(5 * 1024 * 1024)}"}`);
hostile('5 MiB', [
  ['index.json', { index: () => large }, badImage("'index.json' in the layout has more than 4194304 bytes")],
  [
    'manifest',
    { manifest: () => large },
    badImage(/^'blobs\/sha256\/[0-9a-f]{64}' in the layout has more than 4194304 bytes$/),
  ],
  [
    'image configuration',
    { config: () => large },
    badImage(/^blob sha256:[0-9a-f]{64} has [0-9]+ bytes, more than the 4194304 allowed$/),
  ],
  ['a manifest of nearly 4 MiB', { manifest: begins(`"x":"${'x'.repeat(4 * 1024 * 1024 - 2000)}",`) }, F],
]);

const size = (text: string): ImageSpec => ({
  manifest: (m) => JSON.stringify(m).replace(/"size":[0-9]+}]/, `"size":${text}}]`),
});
const noSize = badImage('manifest layer 1 size is not a non-negative integer');
hostile('numbers for sizes', [
  ...[
    '1e400',
    '-1',
    '1.5',
    '9007199254740992',
    '9007199254740993',
    '18446744073709551615',
    '1e-1',
    '-1e400',
    '"1"',
  ].map((text): Case => [text, size(text), noSize]),
  ['-0', size('-0'), refused('DIGEST_MISMATCH', /^got sha256:/)],
]);
hostile('the layout file', [
  [
    'a key twice',
    {
      layout: (l) =>
        writeFileSync(
          join(l.directory, 'oci-layout'),
          '{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}',
        ),
    },
    badImage("oci-layout has the key 'imageLayoutVersion' twice in one object"),
  ],
]);
