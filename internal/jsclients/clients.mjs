// The clients: each builds a message (ERC-4361) and signs it as a site and a
// wallet would. Keys are of tests alone: anybody can compute them.
import { createHash } from 'node:crypto';
import { Wallet } from 'ethers';
import { SiweMessage as SiweMessage2 } from 'siwe2';
import { SiweMessage as SiweMessage3 } from 'siwe3';
import { privateKeyToAccount } from 'viem/accounts';
import { createSiweMessage } from 'viem/siwe';

export const privateKey = name => '0x' + createHash('sha256').update(`dixie test wallet ${name}`).digest('hex');

// siwe signs with ethers. fields are those of the library, times ISO texts.
const siwe = SiweMessage => async (key, fields) => {
  const wallet = new Wallet(key);
  const message = new SiweMessage({ version: '1', ...fields, address: wallet.address }).prepareMessage();
  return { address: wallet.address, message, signature: await wallet.signMessage(message) };
};

const date = text => (text === undefined ? undefined : new Date(text));

const viem = async (key, fields) => {
  const account = privateKeyToAccount(key);
  const message = createSiweMessage({
    version: '1', ...fields, address: account.address,
    issuedAt: date(fields.issuedAt), expirationTime: date(fields.expirationTime), notBefore: date(fields.notBefore),
  });
  return { address: account.address, message, signature: await account.signMessage({ message }) };
};

export const clients = {
  'siwe 2.3.2': siwe(SiweMessage2),
  'siwe 3.0.0': siwe(SiweMessage3),
  'viem 2.57.20': viem,
};
