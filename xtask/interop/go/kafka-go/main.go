// kafka-go behind the line protocol of ../../README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"braidlog/interop/line"

	"github.com/segmentio/kafka-go"
)

const (
	// Records and bytes of one write; the writer waits for all of it.
	chunkRecords = 5_000
	chunkBytes   = 8 << 20
	batchBytes   = 1_900_000
)

func main() {
	line.Main(func(bootstrap []string) (line.Client, error) {
		transport := &kafka.Transport{MetadataTTL: time.Second}
		client := &kafka.Client{Addr: kafka.TCP(bootstrap...), Timeout: line.SecondsMax * time.Second, Transport: transport}
		return &segment{bootstrap, client}, nil
	})
}

type segment struct {
	bootstrap []string
	client    *kafka.Client
}

func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), line.SecondsMax*time.Second)
}

// named gives errors Kafka's names.
func named(err error) error {
	if err == nil {
		return nil
	}
	var known kafka.Error
	if errors.As(err, &known) {
		return line.Named(int(known), err)
	}
	var tooLarge kafka.MessageTooLargeError
	if errors.As(err, &tooLarge) {
		return err
	}
	return line.Passing{Problem: err}
}

func (s *segment) Version() string {
	return "kafka-go " + line.ModuleVersion("github.com/segmentio/kafka-go")
}

func (s *segment) Create(topic string, partitions int, configs map[string]string) error {
	ctx, cancel := limit()
	defer cancel()
	wanted := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: -1}
	for name, value := range configs {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	answer, err := s.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	if err == nil {
		err = answer.Errors[topic]
	}
	return named(err)
}

func (s *segment) Delete(topic string) error {
	ctx, cancel := limit()
	defer cancel()
	answer, err := s.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err == nil {
		err = answer.Errors[topic]
	}
	return named(err)
}

func (s *segment) Topics() ([]string, error) {
	found, err := s.metadata()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, topic := range found.Topics {
		names = append(names, topic.Name)
	}
	return names, nil
}

func (s *segment) metadata() (*kafka.MetadataResponse, error) {
	ctx, cancel := limit()
	defer cancel()
	// A transport of its own: the other one answers from what it knew up to a second ago.
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := kafka.Client{Addr: s.client.Addr, Transport: transport}
	return client.Metadata(ctx, &kafka.MetadataRequest{})
}

func (s *segment) Cluster() (string, int, []int, error) {
	found, err := s.metadata()
	if err != nil {
		return "", 0, nil, err
	}
	var ports []int
	for _, broker := range found.Brokers {
		ports = append(ports, broker.Port)
	}
	return found.ClusterID, found.Controller.ID, ports, nil
}

func (s *segment) Config(topic, name string) (string, error) {
	ctx, cancel := limit()
	defer cancel()
	asked := kafka.DescribeConfigRequestResource{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{name},
	}
	answer, err := s.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{asked},
	})
	if err != nil {
		return "", err
	}
	for _, resource := range answer.Resources {
		for _, entry := range resource.ConfigEntries {
			if entry.ConfigName == name {
				return entry.ConfigValue, nil
			}
		}
		err = errors.Join(err, resource.Error)
	}
	return "", errors.Join(err, fmt.Errorf("no config %s", name))
}

func (s *segment) SetConfig(topic, name, value string) error {
	ctx, cancel := limit()
	defer cancel()
	answer, err := s.client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{
				Name: name, Value: value, ConfigOperation: kafka.ConfigOperationSet,
			}},
		}},
	})
	if err == nil {
		err = answer.Resources[0].Error
	}
	return named(err)
}

func (s *segment) Grow(topic string, partitions int) error {
	ctx, cancel := limit()
	defer cancel()
	answer, err := s.client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(partitions)}},
	})
	if err == nil {
		err = answer.Errors[topic]
	}
	return named(err)
}

func (s *segment) Trim(string, int64) error {
	return line.Unable("kafka-go has no DeleteRecords")
}

func (s *segment) offsets(topic string, asked ...kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	ctx, cancel := limit()
	defer cancel()
	answer, err := s.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: asked},
	})
	if err != nil {
		return kafka.PartitionOffsets{}, err
	}
	if len(answer.Topics[topic]) == 0 {
		return kafka.PartitionOffsets{}, errors.New("no offsets")
	}
	found := answer.Topics[topic][0]
	return found, named(found.Error)
}

func (s *segment) Bounds(topic string, partition int) (int64, int64, error) {
	found, err := s.offsets(topic, kafka.FirstOffsetOf(partition), kafka.LastOffsetOf(partition))
	return found.FirstOffset, found.LastOffset, err
}

func (s *segment) AtTime(topic string, ms int64) (int64, error) {
	found, err := s.offsets(topic, kafka.TimeOffsetOf(0, time.UnixMilli(ms)))
	for offset := range found.Offsets {
		return offset, err
	}
	return -1, err
}

func (s *segment) Groups() ([]string, error) {
	ctx, cancel := limit()
	defer cancel()
	found, err := s.client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err == nil {
		err = found.Error
	}
	if err != nil {
		return nil, named(err)
	}
	var names []string
	for _, group := range found.Groups {
		names = append(names, group.GroupID)
	}
	return names, nil
}

func (s *segment) GroupState(group string) (string, int, error) {
	ctx, cancel := limit()
	defer cancel()
	found, err := s.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return "", 0, named(err)
	}
	if len(found.Groups) != 1 {
		return "", 0, fmt.Errorf("%d groups were described", len(found.Groups))
	}
	one := found.Groups[0]
	return one.GroupState, len(one.Members), named(one.Error)
}

func (s *segment) GroupOffset(group, topic string) (int64, error) {
	ctx, cancel := limit()
	defer cancel()
	asked := kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {0}}}
	found, err := s.client.OffsetFetch(ctx, &asked)
	if err == nil {
		err = found.Error
	}
	if err != nil {
		return 0, named(err)
	}
	if len(found.Topics[topic]) != 1 {
		return 0, errors.New("no offset in the answer")
	}
	one := found.Topics[topic][0]
	return one.CommittedOffset, named(one.Error)
}

func (s *segment) SetGroupOffset(group, topic string, offset int64) error {
	ctx, cancel := limit()
	defer cancel()
	commits := map[string][]kafka.OffsetCommit{topic: {{Partition: 0, Offset: offset}}}
	answer, err := s.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: group, GenerationID: -1, Topics: commits,
	})
	if err != nil {
		return named(err)
	}
	for _, one := range answer.Topics[topic] {
		err = errors.Join(err, one.Error)
	}
	return named(err)
}

func (s *segment) DeleteGroupOffset(group, topic string) error {
	ctx, cancel := limit()
	defer cancel()
	answer, err := s.client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{
		GroupID: group, Topics: map[string][]int{topic: {0}},
	})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		return named(err)
	}
	for _, one := range answer.Topics[topic] {
		err = errors.Join(err, one.Error)
	}
	return named(err)
}

func (s *segment) DeleteGroup(group string) error {
	ctx, cancel := limit()
	defer cancel()
	answer, err := s.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err == nil {
		err = answer.Errors[group]
	}
	return named(err)
}

func (s *segment) Send(topic string, partition int, settings line.Settings, next func() (*line.Record, error)) ([]int64, error) {
	if settings.IsIdempotent && len(s.bootstrap) > 1 {
		// What it sends again after a lost answer is there twice, and that is as it should be.
		return nil, line.Unable("kafka-go has no idempotent producer")
	}
	var codec kafka.Compression
	if settings.Codec != "none" {
		if err := codec.UnmarshalText([]byte(settings.Codec)); err != nil {
			return nil, err
		}
	}
	var lock sync.Mutex
	var offsets []int64
	writer := kafka.Writer{
		Addr: s.client.Addr, Topic: topic, Compression: codec, RequiredAcks: kafka.RequiredAcks(settings.Acks),
		BatchSize: chunkRecords, BatchBytes: batchBytes, BatchTimeout: 5 * time.Millisecond,
		AllowAutoTopicCreation: true,
		Balancer:               kafka.BalancerFunc(func(kafka.Message, ...int) int { return partition }),
		Completion: func(messages []kafka.Message, err error) {
			lock.Lock()
			defer lock.Unlock()
			for _, message := range messages {
				if err == nil {
					offsets = append(offsets, message.Offset)
				}
			}
		},
	}
	defer writer.Close()
	var chunk []kafka.Message
	bytes := 0
	flush := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 4*line.SecondsMax*time.Second)
		defer cancel()
		err := writer.WriteMessages(ctx, chunk...)
		chunk, bytes = nil, 0
		var several kafka.WriteErrors
		if errors.As(err, &several) {
			for _, one := range several {
				if one != nil {
					return named(one)
				}
			}
		}
		return named(err)
	}
	for {
		record, err := next()
		if err != nil {
			return nil, err
		}
		if record == nil {
			break
		}
		message := kafka.Message{Key: record.Key, Value: record.Value, Time: record.Time}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, kafka.Header{Key: header.Key, Value: header.Value})
		}
		chunk = append(chunk, message)
		bytes += len(record.Value)
		if len(chunk) == chunkRecords || bytes >= chunkBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if len(chunk) > 0 {
		if err := flush(); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	lock.Lock()
	defer lock.Unlock()
	slices.Sort(offsets)
	return offsets, nil
}

func (s *segment) Read(topic string, partition int, start, end int64, settings line.Settings, take func(*line.Record) error) error {
	if settings.Rack != "" {
		return line.Unable("kafka-go reads from leaders only")
	}
	if settings.TellsNulls {
		return line.Unable("kafka-go reads empty values as null")
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: s.bootstrap, Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: 8 << 20,
		MaxWait: 500 * time.Millisecond, OffsetOutOfRangeError: true,
	})
	defer reader.Close()
	if err := reader.SetOffset(start); err != nil {
		return err
	}
	for next := start; next < end; {
		ctx, cancel := limit()
		message, err := reader.ReadMessage(ctx)
		cancel()
		if err != nil {
			return named(err)
		}
		if err := take(record(message)); err != nil {
			return err
		}
		next = message.Offset + 1
	}
	return nil
}

func record(message kafka.Message) *line.Record {
	found := line.Record{Offset: message.Offset, Time: message.Time, Key: message.Key, Value: message.Value}
	for _, header := range message.Headers {
		found.Headers = append(found.Headers, line.Header{Key: header.Key, Value: header.Value})
	}
	return &found
}

func (s *segment) Member(group, topic, protocol string, stop <-chan struct{}, show line.Shown) error {
	if protocol != "classic" {
		return line.Unable("kafka-go has the classic protocol only")
	}
	member, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: s.bootstrap, Topics: []string{topic}, StartOffset: kafka.FirstOffset,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: time.Second, RebalanceTimeout: 10 * time.Second,
		JoinGroupBackoff: time.Second,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	well := time.Now()
	for {
		generation, err := member.Next(ctx)
		if ctx.Err() != nil {
			return member.Close()
		}
		if err != nil {
			// The coordinator moves or the members change: asked again, as its own reader does.
			if time.Since(well) > line.SecondsMax*time.Second {
				return err
			}
			continue
		}
		well = time.Now()
		for _, assigned := range generation.Assignments[topic] {
			generation.Start(func(ctx context.Context) { s.follow(ctx, generation, topic, assigned, show) })
		}
	}
}

// follow reads a partition as long as its generation lasts.
func (s *segment) follow(ctx context.Context, generation *kafka.Generation, topic string, assigned kafka.PartitionAssignment, show line.Shown) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: s.bootstrap, Topic: topic, Partition: assigned.ID, MinBytes: 1, MaxBytes: 1 << 20,
		MaxWait: 200 * time.Millisecond,
	})
	defer reader.Close()
	if err := reader.SetOffset(assigned.Offset); err != nil {
		return
	}
	for {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return
		}
		commit := map[string]map[int]int64{topic: {assigned.ID: message.Offset + 1}}
		if err := generation.CommitOffsets(commit); err != nil {
			return // not committed, so not shown: whoever has the partition next reads it
		}
		show.Record(int32(assigned.ID), message.Offset, message.Value)
	}
}
