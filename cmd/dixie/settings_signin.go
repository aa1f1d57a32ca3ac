package main

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/auth"
)

// signInSettings are the settings of Sign-In with Ethereum.
type signInSettings struct {
	Domains            []string          `name:"siwe-domains" env:"DIXIE_SIWE_DOMAINS" placeholder:"HOST" help:"Sites that may ask wallets to sign in, as dixie.example:8443 (https) or http://localhost:3001; those of DIXIE_CORS_ORIGINS when not set."`
	Chains             []uint64          `name:"siwe-chains" env:"DIXIE_SIWE_CHAINS" default:"1" help:"EIP-155 ids of the chains that wallets may sign in with."`
	Nodes              map[uint64]string `name:"siwe-rpc-urls" env:"DIXIE_SIWE_RPC_URLS" mapsep:"," secret:"" placeholder:"CHAIN=URL" help:"Ethereum nodes (JSON-RPC) that say whether the contract of a wallet accepts a signature (EIP-1271), such as 1=https://node.example/key. Without one, wallets that are contracts cannot sign in."`
	RequireServerNonce bool              `name:"siwe-require-server-nonce" env:"DIXIE_SIWE_REQUIRE_SERVER_NONCE" help:"Accept only messages with a nonce from GET /api/auth/nonce."`
}

// signInParts are what signing in needs of other settings.
type signInParts struct {
	Origins  []string      // DIXIE_CORS_ORIGINS
	TokenKey string        // DIXIE_JWT_PRIVATE_KEY; empty: nonces are of this process alone
	Pool     *pgxpool.Pool // nil: in memory
	Admits   func(auth.Address) bool
}

// open returns what verifies sign-ins.
func (s signInSettings) open(parts signInParts) (*auth.SignIn, error) {
	domains := s.Domains
	if len(domains) == 0 {
		domains = parts.Origins
	}
	key, err := nonceKey(parts.TokenKey)
	if err != nil {
		return nil, err
	}
	var nonces auth.NonceStore = &auth.MemoryNonces{}
	if parts.Pool != nil {
		nonces = auth.NewPostgresNonces(parts.Pool)
	}
	config := auth.SignInConfig{
		Domains: domains, Chains: s.Chains, Nonces: nonces, NonceKey: key,
		RequireServerNonce: s.RequireServerNonce, Admits: parts.Admits,
	}
	if len(s.Nodes) > 0 {
		nodes, err := auth.NewContractNodes(s.Nodes)
		if err != nil {
			return nil, fmt.Errorf("siwe-rpc-urls: %w", err)
		}
		config.Contracts = nodes
	}
	signIn, err := auth.NewSignIn(config)
	if err != nil && len(s.Domains) == 0 {
		return nil, fmt.Errorf("%w; DIXIE_SIWE_DOMAINS is not set, so the sites are those of DIXIE_CORS_ORIGINS", err)
	}
	return signIn, err
}

// nonceKey derives the key for nonces from the one for tokens, which replicas
// share already (RFC 5869): those that accept each other's tokens accept each
// other's nonces. Line feeds may be written as two characters, as in the key.
func nonceKey(tokenKey string) ([]byte, error) {
	secret := strings.TrimSpace(strings.ReplaceAll(tokenKey, `\n`, "\n"))
	if secret == "" {
		return nil, nil
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "dixie sign-in nonces", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key for nonces: %w", err)
	}
	return key, nil
}
