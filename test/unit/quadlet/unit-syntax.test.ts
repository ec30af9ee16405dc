/** systemd.syntax(7): sections, assignments, comments, lines that go on, words, specifiers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseUnitText, sectionOf } from '../../../src/quadlet/unit-syntax.ts';
import { expandWord, splitWords } from '../../../src/quadlet/words.ts';
import { throwsOci } from '../expect-error.ts';

test('sections, comments, lines that go on', () => {
  const { assignments, complaints } = parseUnitText(
    '\ufeff# head\r\n[A]\r\n  Key = one two  \r\n; no\nLong=a \\\n# between\n  b\\\n\nTail=x\\\n[B]\n\n[C]\nK=v=w\nlast=\\',
    'f',
  );
  assert.deepEqual(complaints, []);
  assert.deepEqual(assignments, [
    { section: 'A', key: 'Key', value: 'one two', line: 3 },
    { section: 'A', key: 'Long', value: 'a    b', line: 5 },
    { section: 'A', key: 'Tail', value: 'x [B]', line: 9 },
    { section: 'C', key: 'K', value: 'v=w', line: 13 },
    { section: 'C', key: 'last', value: '', line: 14 },
  ]);
});

test('what is no assignment is said by its line, and not shown', () => {
  const { complaints } = parseUnitText('Early=1\n[A]\nroot:secret\n=x\n[open\n', 'f');
  assert.deepEqual(complaints, [
    { line: 1, key: 'Early', reason: 'it stands before any [Section]' },
    { line: 3, key: 'line', reason: 'it is neither [Section] nor Key=value' },
    { line: 4, key: 'line', reason: 'it is neither [Section] nor Key=value' },
    { line: 5, key: 'line', reason: 'it is neither [Section] nor Key=value' },
  ]);
  throwsOci(() => parseUnitText('[A]\nB=\x1b[2J\n', 'f'), 'BAD_UNIT_FILE', /line 2 is no text/);
  throwsOci(() => parseUnitText('\0ELF', 'f'), 'BAD_UNIT_FILE', /line 1 is no text/);
});

test('an empty assignment takes back those before; sections of one name are one', () => {
  const keys = sectionOf(parseUnitText('[A]\nK=1\nK=\nK=2\n[B]\nK=no\n[A]\nK=3\n', 'f'), 'A');
  assert.deepEqual(
    keys.get('K')!.map(({ value }) => value),
    ['2', '3'],
  );
});

test('words: quotes anywhere, escapes, what is open', () => {
  const words = (text: string) => splitWords(text);
  assert.deepEqual(words(`a "b c"d 'e "f' "" g\\ h`), ['a', 'b cd', 'e "f', '', 'g\\ h']);
  assert.deepEqual(words('\\x41\\102\\u00e4\\U0001F600\\s\\t\\q "a\\"b" \'c\\\'d\''), [
    'ABä😀 \t\\q',
    'a"b',
    "c'd",
  ]);
  assert.deepEqual(words(''), []);
  assert.deepEqual(words('a "b'), { refused: 'a quotation mark is not closed' });
  assert.deepEqual(words('\\x00'), { refused: 'it holds a NUL character' });
  assert.deepEqual(words('\\ud800 \\U00110000'), ['\\ud800', '\\U00110000']);
  assert.deepEqual(words('end\\'), ['end\\']);
});

test('specifiers and dollars, as on a command line of systemd', () => {
  const facts = { name: 'app-web', hostName: 'box.example' };
  const expand = (word: string) => expandWord(word, facts);
  assert.equal(
    expand('%n %N %p %j %H %l %t %S %h %U 100%%'),
    'app-web.service app-web app-web web box.example box /run /var/lib /root 0 100%',
  );
  assert.equal(expand('a$b $$HOME $$$ $$$$'), 'a$b $HOME $$ $$');
  for (const word of ['$HOME', 'x$' + '{HOME}', '$$$' + '{HOME}'])
    assert.match((expand(word) as { refused: string }).refused, /variable of the service/, word);
  for (const word of ['%m', '%b', '%ä'])
    assert.match((expand(word) as { refused: string }).refused, /specifier %/, word);
  assert.deepEqual(['50%', '%%i', '%i'].map(expand), ['50%', '%i', '']);
});

test('specifiers of a template: %i is left to ocictl install', () => {
  const expand = (word: string) => expandWord(word, { name: 'my-app@', hostName: 'box' });
  assert.equal(expand('%n %N %p %j %i %I 50%'), 'my-app@%i.service my-app@%i my-app app %i %i 50%');
  assert.deepEqual(expand('%%i'), {
    refused: 'in a template %i is always its instance, and cannot be written otherwise',
  });
});
