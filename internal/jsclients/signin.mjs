// Signs in to a running server with each client, as the site that is given:
//
//   node signin.mjs http://localhost:3001 https://dixie.example
//
// The wallets have to be on the allowlist; --wallets lists them. Each token is
// verified as another service would, with jose and the keys that the server
// publishes.
import assert from 'node:assert/strict';
import { Wallet } from 'ethers';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { clients, privateKey } from './clients.mjs';

const [server, site] = process.argv.slice(2);
if (server === '--wallets') {
  for (const client of Object.keys(clients)) console.log(new Wallet(privateKey(client)).address);
  process.exit(0);
}
const { protocol, host } = new URL(site);
const keys = createRemoteJWKSet(new URL('/api/auth/.well-known/jwks.json', server));

const ask = async (path, init = {}) => {
  const response = await fetch(new URL(path, server), { ...init, signal: AbortSignal.timeout(10_000) });
  return { status: response.status, body: await response.json() };
};

const signIn = ({ message, signature }) => ask('/api/auth/siwe', {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ message, signature }),
});

const inMinutes = n => new Date(Date.now() + n * 60_000).toISOString();

// The least that a message says, and the most.
const least = { domain: host, uri: site, chainId: 1 };
const most = {
  ...least, scheme: protocol.slice(0, -1), statement: 'Sign in to Dixie: ' + new URL('/terms', site), uri: new URL('/login?next=%2F#top', site).href,
  requestId: 'r-1', resources: [new URL('/terms', site).href],
};

async function signInOnce(client, fields) {
  const { body: { nonce } } = await ask('/api/auth/nonce');
  const signed = await clients[client](privateKey(client), { ...fields, nonce, issuedAt: inMinutes(0) });
  const { status, body } = await signIn(signed);
  assert.equal(status, 200, `${client}: ${JSON.stringify(body)}`);
  assert.equal(body.wallet, signed.address);
  assert.equal(body.expiresIn, '1h');
  const again = await signIn(signed);
  assert.equal(again.status, 401, `${client}: a message signs in again: ${JSON.stringify(again.body)}`);
  return { token: body.token, wallet: signed.address };
}

async function check({ token, wallet }) {
  const { payload, protectedHeader } = await jwtVerify(token, keys, {
    algorithms: ['ES256'], issuer: 'dixie-bff', audience: 'dixie-bff', subject: wallet, typ: 'at+jwt', requiredClaims: ['exp', 'iat', 'jti'],
  });
  assert.equal(payload.role, 'team');
  assert.equal(payload.exp - payload.iat, 3600);
  const { status, body } = await ask('/api/auth/verify', { headers: { authorization: `Bearer ${token}` } });
  assert.equal(status, 200);
  assert.deepEqual([body.wallet, body.role, body.exp], [wallet, 'team', payload.exp]);
  return protectedHeader.kid;
}

// refusals are what the server says to messages that are not right.
async function refusals(client) {
  const sign = async fields => signIn(await clients[client](privateKey(client), { ...least, nonce: (await ask('/api/auth/nonce')).body.nonce, issuedAt: inMinutes(0), ...fields }));
  const expect = async (what, want, answer) => assert.equal((await answer).status, want, `${client}: ${what}`);
  await expect('another site', 401, sign({ domain: 'evil.example', uri: 'https://evil.example' }));
  await expect('another chain', 401, sign({ chainId: 999 }));
  await expect('an old message', 401, sign({ issuedAt: inMinutes(-6) }));
  await expect('an expired message', 401, sign({ expirationTime: inMinutes(-1) }));
  await expect('no message', 400, signIn({ message: 'Let me in', signature: '0x00' }));
}

for (const client of Object.keys(clients)) {
  for (const fields of [least, { ...most, expirationTime: inMinutes(5), notBefore: inMinutes(-1) }]) {
    const session = await signInOnce(client, fields);
    console.log(`${client}: ${session.wallet} signs in, token verified with key ${await check(session)}`);
  }
  await refusals(client);
}
