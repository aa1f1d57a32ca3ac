// Writes ../../auth/testdata/siwe/verdicts.json: messages, and whether the parsers of
// siwe 2 and siwe 3 accept them.
import { createRequire } from 'node:module';

const parserOf = name => createRequire(createRequire(import.meta.url).resolve(name))('@spruceid/siwe-parser').ParsedMessage;
const parsers = { siwe2: parserOf('siwe2'), siwe3: parserOf('siwe3') };

const good = {
  scheme: '', domain: 'dixie.example', address: '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed', statement: 'Sign in.',
  uri: 'https://dixie.example/login', version: '1', chain: '1', nonce: '32891757', issued: '2026-02-25T00:00:00.000Z',
  expiration: null, notBefore: null, requestId: null, resources: null,
};

const optional = (label, value) => (value === null ? [] : [label + value]);

const lines = f => [
  `${f.scheme}${f.domain} wants you to sign in with your Ethereum account:`, f.address, '',
  ...optional('', f.statement), '',
  `URI: ${f.uri}`, `Version: ${f.version}`, `Chain ID: ${f.chain}`, `Nonce: ${f.nonce}`, `Issued At: ${f.issued}`,
  ...optional('Expiration Time: ', f.expiration), ...optional('Not Before: ', f.notBefore), ...optional('Request ID: ', f.requestId),
  ...(f.resources === null ? [] : ['Resources:', ...f.resources.map(r => '- ' + r)]),
];

const all = { ...good, expiration: '2026-02-25T00:05:00.000Z', notBefore: '2026-02-25T00:00:00.000Z', requestId: 'some_id', resources: ['https://dixie.example/a', 'ipfs://Qm'] };

const authorities = [
  '127.0.0.1', '127.0.0.1:8080', 'bear@127.0.0.1', 'bear@127.0.0.1:8080', 'a:b@host', 'localhost:8080', '[::cafe]', '[::cafe]:80',
  '[1:2:3:4:5:6:7:8]', '[::ffff:1.2.3.4]', '[v1.a:b]', 'a%20b', 'host:', 'x_y', '1.1.1.256',
  '[::1', '[::1]x', '[1:2:3:4:5:6:7:8:9]', '[1::2::3]', '[fe80::1%25eth0]', '[::1.2.3.400]', '[127.0.0.1]', '[]', 'a@b@c', '::1', 'host:8a', '%4', '%zz',
  'a b', 'a/b', 'a?b', 'a#b', 'a\\b', '"a"', '<a>', 'dixіe.example' /* a Cyrillic i */, 'é.example',
];
const times = [
  '2026-02-25T00:00:00Z', '2026-02-25T00:00:00.123456789012Z', '2026-02-25T00:00:00+05:30', '2026-02-25T00:00:00-23:59', '2024-02-29T00:00:00Z',
  '2026-02-29T00:00:00Z', '2026-02-31T00:00:00Z', '2026-13-01T00:00:00Z', '2026-00-01T00:00:00Z', '2026-01-00T00:00:00Z', '2026-02-25T24:00:00Z',
  '2026-02-25T00:60:00Z', '2026-02-25T23:59:60Z', '2026-02-25T00:00:00+24:00', '2026-02-25T00:00:00+00:60', '2026-02-25T00:00:00', '2026-02-25T00:00Z',
  '2026-02-25T00:00:00.Z', '2026-02-25T00:00:00,5Z', '2026-2-25T00:00:00Z', '2026-02-25 00:00:00Z', '2026-02-25t00:00:00z', '2026-02-25',
  'Wed Oct 05 2011 16:48:00 GMT+0200 (CEST)', '1772000000', '', ' 2026-02-25T00:00:00Z', '2026-02-25T00:00:00Z ',
];
const uris = [
  'https://[::cafe]', 'https://127.0.0.1', 'https://127.0.0.1:4361', 'https://127.0.0.1/?query=one#begin', 'did:key:z6Mk', 'urn:isbn:123', 'x:', 'x://', 'http:///p',
  'https://u@h/', 'a:/b', 'https://x/%41', 'a+b-c.d:e', 'https://x?a?b',
  '_not_a_uri_', ':no_scheme', '1a:b', '/relative', 'https://x/%4', 'https://x/[', 'https://x?a=[b]', 'https://x/#a#b', 'https://x/"', 'https://x\\y', 'a b:c', 'https://x/ y',
  'https://h:8x/', 'https://[::1/', 'https://é.example', '',
];
const values = {
  domain: [...authorities, ''],
  scheme: ['https://', 'http://', 'a+b-c.d://', 'HTTPS://', '://', '1x://', 'a_b://', 'https:/', 'https://x://'],
  address: [
    '0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed', '0x5AAEB6053F3E94C9B9A09F33669435E7EF1BEAED', '0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed',
    '5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed', '0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed', '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe',
    '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAedd', '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeg', ' 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed', '',
  ],
  statement: [null, '', ' ', "aZ09-._~:/?#[]@!$&'()*+,;= z", 'URI: https://dixie.example/login', 'Two\nlines.', 'A tab\t', '50 %', 'say "yes"', 'a\\b', '<b>', '{a}', 'a^b', 'a`b', 'a|b', 'déjà vu', 'a\u0000b'],
  uri: uris,
  version: ['2', '', '01', '1 ', 'one'],
  chain: ['4', '8453', '18446744073709551615', '0', '01', '18446744073709551616', '', '?', '-1', '+1', '1.0', '0x1', ' 1', '1_0'],
  nonce: ['1234567', '', '12345678-', '1234 5678', '12345678_', 'abcdéfgh', 'A'.repeat(100)],
  issued: times,
  expiration: times.slice(4, 8),
  notBefore: times.slice(4, 8),
  requestId: ['', 'a:b@c', '%41', "!$&'()*+,;=-._~", '%4', 'a b', 'a/b', 'a?b', 'é'],
};

const cases = [['all fields', lines(all)], ['required fields only', lines({ ...good, statement: null })]];
for (const [field, texts] of Object.entries(values)) {
  for (const text of texts) cases.push([`${field} ${JSON.stringify(text)}`, lines({ ...good, [field]: text })]);
}
for (const resources of [[], ['x:y'], ['https://dixie.example/a b'], ['https://dixie.example/a - https://dixie.example/b'], ['_no_'], ['x:y', '_no_'], ['_no_', 'x:y'], ['']]) {
  cases.push([`resources ${JSON.stringify(resources)}`, lines({ ...good, resources })]);
}

// Lines that are missing, repeated, or in another order.
const every = lines(all);
every.forEach((line, i) => {
  const name = `line ${i + 1} (${line.slice(0, 16)})`;
  cases.push([`${name} is missing`, every.toSpliced(i, 1)], [`${name} is there twice`, every.toSpliced(i, 0, line)]);
  cases.push([`${name} is indented`, every.with(i, ' ' + line)], [`${name} has a trailing space`, every.with(i, line + ' ')]);
  cases.push([`${name} ends in a carriage return`, every.with(i, line + '\r')]);
  if (i + 1 < every.length) cases.push([`${name} comes one later`, every.toSpliced(i, 2, every[i + 1], line)]);
});
['URI', 'Version', 'Chain ID', 'Nonce', 'Issued At', 'Expiration Time', 'Not Before', 'Request ID', 'Resources'].forEach(label => {
  const i = every.findIndex(line => line.startsWith(label + ':'));
  cases.push([`${label} in small letters`, every.with(i, every[i].toLowerCase())], [`${label} without its space`, every.with(i, every[i].replace(': ', ':'))]);
});
const texts = cases.map(([name, lines]) => [name, lines.join('\n')]);
const whole = every.join('\n');
texts.push(
  ['carriage returns', every.join('\r\n')], ['carriage returns alone', every.join('\r')],
  ['a final line feed', whole + '\n'], ['two final line feeds', whole + '\n\n'], ['a line after the last', whole + '\nHello'], ['a line before the first', '\n' + whole],
  ['a byte order mark', '\ufeff' + whole], ['a final zero', whole + '\0'], ['a final space', whole + ' '],
  ['a line separator of Unicode', every.join('\u2028')], ['empty', ''], ['a line feed', '\n'], ['twice', whole + '\n' + whole], ['the first line alone', every[0]],
  ['another sentence', whole.replace('wants you to', 'asks you to')], ['another account', whole.replace('Ethereum', 'Solana')],
);

const accepts = (Parser, message) => {
  try {
    new Parser(message);
    return true;
  } catch {
    return false;
  }
};

const seen = new Set();
const verdicts = [];
for (const [name, message] of texts) {
  if (seen.has(message)) continue;
  seen.add(message);
  verdicts.push({ name, message, siwe2: accepts(parsers.siwe2, message), siwe3: accepts(parsers.siwe3, message) });
}
console.log('[\n' + verdicts.map(v => JSON.stringify(v)).join(',\n') + '\n]');
