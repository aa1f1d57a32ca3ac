package reputation

// DecodeStrictly is [Decode] without the fast way for plain spellings.
var DecodeStrictly = decodeStrictly
