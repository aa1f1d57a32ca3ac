package reputation

import "strings"

// TaskType is what kind of work was judged (protocol §3.3): a literal of the
// protocol or a community type of the form "namespace:type". The empty value
// means that none was given.
type TaskType string

// TaskUnspecified says that the task's kind was not recorded. Such an event
// counts for the aggregate and for no cohort.
const TaskUnspecified TaskType = "unspecified"

// taskTypes are the literals of protocol §3.3.
var taskTypes = [...]TaskType{
	"code_review", "creative_writing", "analysis", "summarization", "general", TaskUnspecified,
}

const taskTypeRule = `must be code_review, creative_writing, analysis, summarization, general, unspecified, ` +
	`or "namespace:type" matching ^[a-z][a-z0-9_-]+:[a-z][a-z0-9_]+$ with at most 255 characters`

// Valid reports whether t is a protocol literal or a well-formed community type.
// The protocol does not bound the length; 255 keeps a cohort's key below what
// PostgreSQL can index.
func (t TaskType) Valid() bool {
	for _, literal := range taskTypes {
		if t == literal {
			return true
		}
	}
	namespace, name, ok := strings.Cut(string(t), ":")
	return ok && len(t) <= maxName &&
		len(namespace) >= 2 && isLower(namespace[0]) && all(namespace[1:], isNamespaceByte) &&
		len(name) >= 2 && isLower(name[0]) && all(name[1:], isWordByte)
}

// Known reports whether t names a kind of task, so that a cohort is kept for it.
func (t TaskType) Known() bool { return t != "" && t != TaskUnspecified }

// maxName is the longest identifier of the protocol, in characters.
const maxName = 255

// ValidNFT reports whether id can name an NFT: ^[A-Za-z0-9._:-]{1,255}$.
func ValidNFT(id string) bool {
	return len(id) >= 1 && len(id) <= maxName && all(id, isNFTByte)
}

// validDimension reports whether name matches ^[a-z][a-z0-9_]{0,31}$.
func validDimension(name string) bool {
	return len(name) >= 1 && len(name) <= 32 && isLower(name[0]) && all(name[1:], isWordByte)
}

// validUUID reports whether s is 8-4-4-4-12 hexadecimal digits of either case,
// of any version (protocol §1).
func validUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if hyphen != (s[i] == '-') || !hyphen && !isHex(s[i]) {
			return false
		}
	}
	return true
}

func all(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isLower(b byte) bool         { return b >= 'a' && b <= 'z' }
func isDigit(b byte) bool         { return b >= '0' && b <= '9' }
func isWordByte(b byte) bool      { return isLower(b) || isDigit(b) || b == '_' }
func isNamespaceByte(b byte) bool { return isWordByte(b) || b == '-' }
func isHex(b byte) bool           { return isDigit(b) || b|0x20 >= 'a' && b|0x20 <= 'f' }
func isNFTByte(b byte) bool {
	return isLower(b|0x20) || isDigit(b) || b == '.' || b == '_' || b == ':' || b == '-'
}
