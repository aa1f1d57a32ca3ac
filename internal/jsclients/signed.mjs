// Writes ../../auth/testdata/siwe/signed.json: messages that each client has built
// and signed. The same every time, as signatures are deterministic (RFC 6979).
import { clients, privateKey } from './clients.mjs';

const required = {
  domain: 'dixie.example', uri: 'https://dixie.example/login', chainId: 1,
  nonce: 'k7Qw2Zt9Lm4Xb8Rc', issuedAt: '2026-02-25T00:00:00.000Z',
};

const variations = {
  'required fields only': {},
  'statement': { statement: 'Sign in to Dixie.' },
  'statement of all characters': { statement: "aZ09-._~ :/?#[]@ !$&'()*+,;=" },
  'scheme': { scheme: 'https', statement: 'Sign in to Dixie.' },
  'host and port': { domain: 'localhost:3001', uri: 'http://localhost:3001' },
  'IP address': { domain: '127.0.0.1:3001', uri: 'http://127.0.0.1:3001/login' },
  'URI with query and fragment': { uri: 'https://dixie.example/login?next=%2Fchat#top' },
  'another chain': { chainId: 8453 },
  'expiration': { expirationTime: '2026-02-25T00:05:00.000Z' },
  'not before': { notBefore: '2026-02-24T23:59:00.000Z' },
  'request id': { requestId: 'r-1:a@b' },
  'one resource': { resources: ['https://dixie.example/terms'] },
  'all fields': {
    scheme: 'https', statement: 'Sign in to Dixie: https://dixie.example/terms', expirationTime: '2026-02-25T00:05:00.000Z',
    notBefore: '2026-02-25T00:00:00.000Z', requestId: '7', resources: ['ipfs://bafybeiemxf5abjwjbikoz4m', 'https://dixie.example/chat?x=1#y'],
  },
};

// What not every client can say.
const own = {
  'siwe 2.3.2': {
    'no resources': { resources: [] },
    'user and IPv6 address': { domain: 'bear@[2001:db8::1]:8443', uri: 'https://[2001:db8::1]:8443/' },
    'time without fraction and with offset': { issuedAt: '2026-02-25T01:00:00+01:00' },
  },
  'siwe 3.0.0': {
    'no resources': { resources: [] },
    'empty statement': { statement: '' },
    'user and IPv6 address': { domain: 'bear@[2001:db8::1]:8443', uri: 'https://[2001:db8::1]:8443/' },
    'time without fraction and with offset': { issuedAt: '2026-02-25T01:00:00+01:00' },
  },
  'viem 2.57.20': { 'no resources': { resources: [] } },
};

const signed = [];
for (const [client, sign] of Object.entries(clients)) {
  for (const [name, fields] of Object.entries({ ...variations, ...own[client] })) {
    const all = { ...required, ...fields };
    signed.push({ client, name, fields: all, ...(await sign(privateKey(client), all)) });
  }
}
console.log('[\n' + signed.map(s => JSON.stringify(s)).join(',\n') + '\n]');
