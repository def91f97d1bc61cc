package line

import "fmt"

// The errors that checks look for, by their numbers, with Kafka's names.
var names = map[int]string{
	1:  "OFFSET_OUT_OF_RANGE",
	3:  "UNKNOWN_TOPIC_OR_PARTITION",
	10: "MESSAGE_TOO_LARGE",
	17: "INVALID_TOPIC_EXCEPTION",
	36: "TOPIC_ALREADY_EXISTS",
	37: "INVALID_PARTITIONS",
	38: "INVALID_REPLICATION_FACTOR",
	40: "INVALID_CONFIG",
	68: "NON_EMPTY_GROUP",
}

// Transient errors, which nodes that are away bring about.
var transient = map[int]bool{5: true, 6: true, 7: true, 8: true, 13: true, 38: true, 41: true}

// Named gives an error the name that Kafka has for its number.
func Named(code int, err error) error {
	name, ok := names[code]
	if ok {
		err = fmt.Errorf("%s: %w", name, err)
	}
	if transient[code] {
		return Passing{err}
	}
	return err
}
