package http

import (
	"bytes"
	"io"
	"net/http"

	"github.com/google/uuid"
)

// TooManyConnections is what a connection is told that is one too many, in HTTP/1.1:
// an answer like all others, to whatever will be asked.
func TooManyConnections() []byte {
	status, body := describe(errConnections)
	body.RequestID, body.RetryAfter = uuid.NewString(), seconds(retryAfter)
	text := marshal(body)
	header := http.Header{"Content-Type": {"application/json"}, requestIDHeader: {body.RequestID}}
	setErrorHeaders(header, status, errConnections, body)
	response := http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: header, Close: true,
		ContentLength: int64(len(text)), Body: io.NopCloser(bytes.NewReader(text)),
	}
	var out bytes.Buffer
	_ = response.Write(&out) // a buffer takes everything
	return out.Bytes()
}
