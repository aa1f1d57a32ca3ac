package auth

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	// contractTimeout bounds one question to a node.
	contractTimeout = 5 * time.Second
	// contractCalls is how many questions there are at a time: strangers can cause
	// them, by naming the address of a wallet that may sign in.
	contractCalls = 8
	// contractGas is what a contract may use to check a signature.
	contractGas = 3_000_000
	// maxContractAnswer bounds what is read of an answer, in bytes.
	maxContractAnswer = 64 << 10
)

// isValidSignature begins the call isValidSignature(bytes32,bytes), and the answer
// of a contract that accepts (EIP-1271).
var isValidSignature = [4]byte{0x16, 0x26, 0xba, 0x7e}

// ContractNodes asks contracts through a node of their chain (JSON-RPC, eth_call).
// It is a [ContractVerifier].
type ContractNodes struct {
	urls   map[uint64]string
	client *http.Client
	calls  chan struct{}
}

// NewContractNodes takes the URL of a node for each chain. URLs often contain a
// secret, so no error tells them.
func NewContractNodes(urls map[uint64]string) (*ContractNodes, error) {
	for chain, text := range urls {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("the node of chain %d: must be an http or https URL", chain)
		}
	}
	return &ContractNodes{
		urls: urls, calls: make(chan struct{}, contractCalls),
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// ValidSignature is that of [ContractVerifier]. On a chain without a node, no
// contract accepts anything. What a contract says holds for the latest block.
func (n *ContractNodes) ValidSignature(ctx context.Context, chain uint64, wallet Address, hash [32]byte, signature []byte) (bool, error) {
	node, ok := n.urls[chain]
	if !ok {
		return false, nil
	}
	select {
	case n.calls <- struct{}{}:
		defer func() { <-n.calls }()
	default:
		return false, fmt.Errorf("%d contracts are being asked, which is the limit", contractCalls)
	}
	ctx, cancel := context.WithTimeout(ctx, contractTimeout)
	defer cancel()
	answer, err := n.call(ctx, node, wallet, contractCall(hash, signature))
	if err != nil {
		return false, fmt.Errorf("node of chain %d: %w", chain, err)
	}
	return bytes.Equal(answer, slices.Concat(isValidSignature[:], make([]byte, 28))), nil
}

// contractCall is the call by the rules of contract ABIs: the words after the
// selector are the hash, where the signature begins, and its length.
func contractCall(hash [32]byte, signature []byte) []byte {
	padding := make([]byte, (32-len(signature)%32)%32)
	return slices.Concat(isValidSignature[:], hash[:], word(0x40), word(uint64(len(signature))), signature, padding)
}

func word(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 24, 32), n) }

type rpcRequest struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  [2]any `json:"params"`
}

type rpcCall struct {
	To   string `json:"to"`
	Data string `json:"data"`
	Gas  string `json:"gas"`
}

type rpcAnswer struct {
	Result string `json:"result"`
	Error  *struct {
		Code int64 `json:"code"`
	} `json:"error"`
}

// call returns what a contract answers, which is nothing when it fails.
func (n *ContractNodes) call(ctx context.Context, node string, wallet Address, data []byte) ([]byte, error) {
	body, err := json.Marshal(rpcRequest{Version: "2.0", ID: 1, Method: "eth_call", Params: [2]any{
		rpcCall{To: wallet.String(), Data: "0x" + hex.EncodeToString(data), Gas: fmt.Sprintf("%#x", contractGas)}, "latest",
	}})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, node, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the URL is wrong")
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := n.client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answers with status %d", response.StatusCode)
	}
	return readAnswer(response.Body)
}

// readAnswer is what a contract returned, by the answer of a node.
func readAnswer(body io.Reader) ([]byte, error) {
	var answer rpcAnswer
	if err := json.UnmarshalRead(io.LimitReader(body, maxContractAnswer), &answer); err != nil {
		return nil, errors.New("does not answer in JSON-RPC")
	}
	return answer.data()
}

// withoutURL is the error without the URL, in which there may be a secret.
func withoutURL(err error) error {
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// data is what the contract returned. A call that was reverted, or ran out of gas,
// returned nothing: nodes say so with these codes.
func (a rpcAnswer) data() ([]byte, error) {
	if a.Error != nil {
		switch a.Error.Code {
		case 3, -32000, -32015:
			return nil, nil
		}
		return nil, fmt.Errorf("answers with error %d", a.Error.Code)
	}
	digits, ok := strings.CutPrefix(a.Result, "0x")
	data, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return nil, errors.New("does not answer with hexadecimal data")
	}
	return data, nil
}
