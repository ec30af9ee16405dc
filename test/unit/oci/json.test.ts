import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OciError } from '../../../src/oci/errors.ts';
import { asSize, asStringMap, optional, parseJson } from '../../../src/oci/json.ts';

const parse = (text: string | Uint8Array, max = 1000) =>
  parseJson(typeof text === 'string' ? Buffer.from(text) : text, max, 'doc');

function refuses(text: string | Uint8Array, message: string | RegExp, max?: number): void {
  assert.throws(
    () => parse(text, max),
    (error: unknown) => {
      assert.ok(error instanceof OciError);
      assert.equal(error.code, 'BAD_IMAGE');
      if (typeof message === 'string') assert.equal(error.message, message);
      else assert.match(error.message, message);
      return true;
    },
  );
}

test('values come out as JSON.parse gives them', () => {
  assert.deepEqual(parse('{"a":[1,"x,{}\\"",null,true],"b":{"a":1},"c":[{"a":1},{"a":2}]}'), {
    a: [1, 'x,{}"', null, true],
    b: { a: 1 },
    c: [{ a: 1 }, { a: 2 }],
  });
  assert.equal(parse(' "\\\\" '), '\\');
});

test('two readings of one document are refused', () => {
  refuses('{"a":1,"a":2}', "doc has the key 'a' twice in one object");
  refuses('{"a":1,"b":{},"\\u0061":2}', "doc has the key 'a' twice in one object");
  refuses('[{"x":{"y":[],"y":1}}]', "doc has the key 'y' twice in one object");
  refuses('{"__proto__":{"x":1}}', "doc has the forbidden key '__proto__'");
  refuses('{"\\u005f_proto__":1}', "doc has the forbidden key '__proto__'");
  refuses('{"k\\u0000":1,"k\\u0000":1}', "doc has the key 'k\\x00' twice in one object");
});

test('size, depth, encoding and trailing data are bounded', () => {
  refuses('[1,2]', 'doc has 5 bytes, more than the 4 allowed', 4);
  assert.deepEqual(parse('[1,2]', 5), [1, 2]);
  assert.equal(JSON.stringify(parse('['.repeat(64) + ']'.repeat(64))), '['.repeat(64) + ']'.repeat(64));
  refuses('['.repeat(65) + ']'.repeat(65), 'doc is nested deeper than 64 levels');
  refuses(`[${'{},'.repeat(1_000_000)}0]`, 'doc has more than 1000000 objects and arrays', 4_000_000);
  refuses('['.repeat(4_000_000), 'doc is nested deeper than 64 levels', 4_000_000);
  refuses('\ufeff{}', 'doc begins with a byte order mark');
  refuses(new Uint8Array([0x22, 0xff, 0x22]), 'doc is not valid UTF-8');
  for (const text of ['', '{} {}', '{}x', '{"a"', '"', '{"a\\', "{'a':1}", 'NaN', '[1,]', '{,}', ']', '01'])
    refuses(text, 'doc is not valid JSON');
});

test('sizes are exact non-negative integers', () => {
  assert.equal(asSize(0, 's'), 0);
  assert.equal(asSize(9007199254740991, 's'), 9007199254740991);
  for (const value of [-1, 1.5, 9007199254740992, Number.POSITIVE_INFINITY, '1', null, undefined])
    assert.throws(() => asSize(value, 's'), { message: 's is not a non-negative integer' });
});

test('null is absent, other types are not', () => {
  assert.equal(optional(null, asSize, 's'), undefined);
  assert.equal(optional(undefined, asSize, 's'), undefined);
  assert.equal(optional(3, asSize, 's'), 3);
  assert.throws(() => optional('3', asSize, 's'), { message: 's is not a non-negative integer' });
  assert.deepEqual(asStringMap({ a: 'x', b: null }, 'm'), { a: 'x', b: '' });
  assert.throws(() => asStringMap({ a: 1 }, 'm'), { message: "m['a'] is not a string" });
});
