// Package line is the line protocol of ../../README.md; a driver brings the client behind it.
package line

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

const (
	// SecondsMax is how long any single request may take.
	SecondsMax = 30
	// patience is for a topic to be created while nodes are away.
	patience = 100 * time.Second
	lines    = 210
)

// Unable says that a client has no such feature.
type Unable string

func (why Unable) Error() string { return string(why) }

// Passing is a refusal that may be another answer a moment later: nodes are away.
type Passing struct{ Problem error }

func (p Passing) Error() string { return p.Problem.Error() }

// Header of a record; a nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record to be sent, or read. Nil keys and values are null; a zero time is the client's own.
type Record struct {
	Offset  int64
	Time    time.Time
	Key     []byte
	Value   []byte
	Headers []Header
}

// Settings of a producer or of a consumer.
type Settings struct {
	Codec        string
	Acks         int // 0, 1 or -1
	IsIdempotent bool
	Rack, Node   string
	// TellsNulls: a null must not be read as an empty value, nor the other way round.
	TellsNulls bool
}

// Client is what a driver brings. Errors name Kafka's error where the client knows it.
type Client interface {
	Version() string
	Create(topic string, partitions int, configs map[string]string) error
	Delete(topic string) error
	Topics() ([]string, error)
	// Cluster tells its id, the controller and the nodes' ports.
	Cluster() (id string, controller int, ports []int, err error)
	Config(topic, name string) (string, error)
	SetConfig(topic, name, value string) error
	Grow(topic string, partitions int) error
	Trim(topic string, offset int64) error
	Bounds(topic string, partition int) (start, end int64, err error)
	AtTime(topic string, ms int64) (int64, error)
	Groups() ([]string, error)
	// GroupState tells Kafka's name of the state, and how many members there are.
	GroupState(group string) (state string, members int, err error)
	// GroupOffset is what a group committed for partition 0, -1 for nothing.
	GroupOffset(group, topic string) (int64, error)
	SetGroupOffset(group, topic string, offset int64) error
	DeleteGroupOffset(group, topic string) error
	DeleteGroup(group string) error
	// Send sends in order what next gives until nil, and returns the offsets; nil when unknown.
	Send(topic string, partition int, settings Settings, next func() (*Record, error)) ([]int64, error)
	// Read takes the records of [start, end).
	Read(topic string, partition int, start, end int64, settings Settings, take func(*Record) error) error
	// Member joins a group until stop is closed: it commits what it read, then shows it.
	Member(group, topic, protocol string, stop <-chan struct{}, show Shown) error
}

// Shown is what a member of a group tells as it happens.
type Shown struct{}

// Record shows a record whose offset is committed.
func (Shown) Record(partition int32, offset int64, value []byte) {
	answer("record", strconv.Itoa(int(partition)), strconv.FormatInt(offset, 10), string(value))
}

// ModuleVersion is the version of a module that this program was built with.
func ModuleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "?"
	}
	for _, module := range info.Deps {
		if module.Path == path {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "?"
}

// Main answers requests until standard input ends, or is a member of a group until then.
func Main(open func(bootstrap []string) (Client, error)) {
	client, err := open(strings.Split(os.Args[1], ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) > 2 {
		stop := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(stop)
		}()
		if err := client.Member(os.Args[3], os.Args[4], os.Args[5], stop, Shown{}); err != nil {
			answer(unlucky(err), err.Error())
			os.Exit(1)
		}
		answer("left")
		return
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Split(input.Text(), "\t")
		found, err := respond(client, words[0], words[1:])
		if err != nil {
			answer(unlucky(err), err.Error())
		} else {
			answer(append([]string{"ok"}, found...)...)
		}
	}
}

func unlucky(err error) string {
	var why Unable
	if errors.As(err, &why) {
		return "unable"
	}
	return "error"
}

func answer(words ...string) {
	for i, word := range words {
		words[i] = strings.NewReplacer("\n", " ", "\t", " ").Replace(word)
	}
	// One write: members show things from several goroutines.
	_, _ = os.Stdout.WriteString(strings.Join(words, "\t") + "\n")
}

func respond(client Client, request string, words []string) ([]string, error) {
	number := func(at int) int64 {
		value, _ := strconv.ParseInt(words[at], 10, 64)
		return value
	}
	text := func(values ...int64) []string {
		all := make([]string, 0, len(values))
		for _, value := range values {
			all = append(all, strconv.FormatInt(value, 10))
		}
		return all
	}
	switch request {
	case "version":
		return []string{client.Version()}, nil
	case "create":
		return nil, create(client, words[0], int(number(1)), words[2:])
	case "delete":
		return nil, client.Delete(words[0])
	case "topics":
		names, err := client.Topics()
		return []string{strings.Join(names, ",")}, err
	case "cluster":
		id, controller, ports, err := client.Cluster()
		shown := strings.Trim(strings.ReplaceAll(fmt.Sprint(ports), " ", ","), "[]")
		return []string{id, strconv.Itoa(controller), shown}, err
	case "config":
		value, err := client.Config(words[0], words[1])
		return []string{value}, err
	case "set-config":
		return nil, client.SetConfig(words[0], words[1], words[2])
	case "grow":
		return nil, client.Grow(words[0], int(number(1)))
	case "trim":
		return nil, client.Trim(words[0], number(1))
	case "bounds":
		start, end, err := client.Bounds(words[0], int(number(1)))
		return text(start, end), err
	case "at-time":
		offset, err := client.AtTime(words[0], number(1))
		return text(offset), err
	case "groups":
		names, err := client.Groups()
		return []string{strings.Join(names, ",")}, err
	case "group-state":
		state, members, err := client.GroupState(words[0])
		return []string{state, strconv.Itoa(members)}, err
	case "group-offset":
		offset, err := client.GroupOffset(words[0], words[1])
		return text(offset), err
	case "set-group-offset":
		return nil, client.SetGroupOffset(words[0], words[1], number(2))
	case "delete-group-offset":
		return nil, client.DeleteGroupOffset(words[0], words[1])
	case "delete-group":
		return nil, client.DeleteGroup(words[0])
	case "value":
		var value string
		err := client.Read(words[0], int(number(1)), number(2), number(2)+1, Settings{}, func(record *Record) error {
			value = string(record.Value)
			return nil
		})
		return []string{value}, err
	case "send":
		offsets, err := sendSmall(client, words[0], int(number(1)), number(2), words[3], int(number(4)), number(5))
		return text(offsets...), err
	case "produce":
		count, err := produce(client, words[0], words[1], words[2])
		return text(count), err
	case "digest":
		return digest(client, words[0], Settings{})
	case "digest-of":
		return digest(client, words[0], Settings{Node: words[1], Rack: words[2]})
	case "produce-lines":
		count, err := produceLines(client, words[0], number(1))
		return text(count), err
	case "lines":
		return readLines(client, words[0])
	default:
		return nil, fmt.Errorf("unknown request %s", request)
	}
}

// create tries again what may pass.
func create(client Client, topic string, partitions int, configs []string) error {
	settings := map[string]string{}
	for _, entry := range configs {
		name, value, _ := strings.Cut(entry, "=")
		settings[name] = value
	}
	begun := time.Now()
	for again := false; ; again = true {
		err := client.Create(topic, partitions, settings)
		if again && err != nil && strings.Contains(err.Error(), "TOPIC_ALREADY_EXISTS") {
			return nil // an earlier try did it, though its answer was lost
		}
		var passing Passing
		if !errors.As(err, &passing) || time.Since(begun) > patience {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// sendSmall sends records `record I`, or ones of so many bytes, a second apart when baseMs >= 0.
func sendSmall(client Client, topic string, partition int, count int64, acks string, size int, baseMs int64) ([]int64, error) {
	settings := Settings{Codec: "none", Acks: -1}
	switch acks {
	case "0", "1":
		settings.Acks = int(acks[0] - '0')
	case "idempotent":
		settings.IsIdempotent = true
	}
	var i int64
	offsets, err := client.Send(topic, partition, settings, func() (*Record, error) {
		if i == count {
			return nil, nil
		}
		record := Record{Value: fmt.Appendf(nil, "record %d", i)}
		if size > 0 {
			record.Value = bytes.Repeat([]byte("x"), size)
		}
		if baseMs >= 0 {
			record.Time = time.UnixMilli(baseMs + 1000*i)
		}
		i++
		return &record, nil
	})
	if len(offsets) > 2 {
		offsets = []int64{offsets[0], offsets[len(offsets)-1]}
	}
	return offsets, err
}

func produce(client Client, topic, codec, path string) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	input := bufio.NewReaderSize(file, 1<<20)
	var count int64
	offsets, err := client.Send(topic, 0, Settings{Codec: codec, Acks: -1, IsIdempotent: true}, func() (*Record, error) {
		var length uint32
		if err := binary.Read(input, binary.BigEndian, &length); err == io.EOF {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		value := make([]byte, length)
		_, err := io.ReadFull(input, value)
		count++
		return &Record{Value: value}, err
	})
	if err != nil {
		return 0, err
	}
	for due, offset := range offsets {
		// A batch that was there already when it was sent again may come without its offset.
		if offset != int64(due) && offset != -1 {
			return 0, fmt.Errorf("offset %d where %d was due", offset, due)
		}
	}
	return count, nil
}

// readWhole insists on offsets without gaps.
func readWhole(client Client, topic string, settings Settings, take func(*Record)) (int64, error) {
	start, end, err := client.Bounds(topic, 0)
	for begun := time.Now(); err != nil && time.Since(begun) < SecondsMax*time.Second; {
		// The leader moves just then.
		time.Sleep(50 * time.Millisecond)
		start, end, err = client.Bounds(topic, 0)
	}
	if err != nil || start == end {
		return 0, err
	}
	next := start
	err = client.Read(topic, 0, start, end, settings, func(record *Record) error {
		if record.Offset != next {
			return fmt.Errorf("offset %d came where %d was due", record.Offset, next)
		}
		take(record)
		next++
		return nil
	})
	if err == nil && next != end {
		err = fmt.Errorf("read up to offset %d of %d", next, end)
	}
	return next - start, err
}

func digest(client Client, topic string, settings Settings) ([]string, error) {
	sha := sha256.New()
	var length [4]byte
	count, err := readWhole(client, topic, settings, func(record *Record) {
		binary.BigEndian.PutUint32(length[:], uint32(len(record.Value)))
		sha.Write(length[:])
		sha.Write(record.Value)
	})
	return []string{strconv.FormatInt(count, 10), fmt.Sprintf("%x", sha.Sum(nil))}, err
}

func produceLines(client Client, topic string, baseMs int64) (int64, error) {
	i := 0
	_, err := client.Send(topic, 0, Settings{Codec: "none", Acks: -1}, func() (*Record, error) {
		if i == lines {
			return nil, nil
		}
		record := Record{Time: time.UnixMilli(baseMs + 1000*int64(i))}
		if i%5 != 0 {
			record.Key = fmt.Appendf(nil, "key-%d", i%17)
		}
		switch i % 7 {
		case 0:
		case 1:
			record.Value = []byte{}
		default:
			record.Value = fmt.Appendf(nil, "value %d", i)
		}
		switch i % 3 {
		case 1:
			record.Headers = []Header{{"h", fmt.Append(nil, i)}}
		case 2:
			record.Headers = []Header{{"h", []byte("a")}, {"h", []byte("b")}, {"n", nil}}
		}
		i++
		return &record, nil
	})
	return int64(i), err
}

func readLines(client Client, topic string) ([]string, error) {
	plain, timed := sha256.New(), sha256.New()
	sized := func(value []byte) string {
		if value == nil {
			return "-1 "
		}
		return fmt.Sprintf("%d %s", len(value), value)
	}
	count, err := readWhole(client, topic, Settings{TellsNulls: true}, func(record *Record) {
		headers := make([]string, 0, len(record.Headers))
		for _, header := range record.Headers {
			value := "NULL"
			if header.Value != nil {
				value = string(header.Value)
			}
			headers = append(headers, header.Key+"="+value)
		}
		rest := fmt.Sprintf("%s %s %s\n", sized(record.Key), sized(record.Value), strings.Join(headers, ","))
		fmt.Fprintf(plain, "%d %s", record.Offset, rest)
		fmt.Fprintf(timed, "%d %d %s", record.Offset, record.Time.UnixMilli(), rest)
	})
	return []string{strconv.FormatInt(count, 10), fmt.Sprintf("%x", plain.Sum(nil)), fmt.Sprintf("%x", timed.Sum(nil))}, err
}
