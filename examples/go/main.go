// A client of feedsvc that was written from protos/ and docs/contract.md alone.
//
// It publishes with retries, walks a feed, and keeps a live copy of it over restarts of the server. At the end it
// compares the copy with a walk, and exits with 1 if they differ.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"sort"
	"sync"
	"time"

	activityfeedv1 "github.com/feedsvc/feedsvc/clients/go/activityfeed/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// A stream that was silent for so long is dead: the server sends a heartbeat every 15 seconds.
const silence = 45 * time.Second

func main() {
	server := flag.String("server", "127.0.0.1:50051", "host:port of the service")
	config := flag.String("service-config", "../../clients/service_config.json", "deadlines and retries of each method")
	seconds := flag.Float64("seconds", 10, "how long to publish while the feed is kept")
	flag.Parse()
	if err := run(*server, *config, time.Duration(*seconds*float64(time.Second))); err != nil {
		log.Fatal(err)
	}
}

func run(server, configFile string, publishing time.Duration) error {
	config, err := os.ReadFile(configFile)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(server,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(config)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, PermitWithoutStream: true}))
	if err != nil {
		return err
	}
	defer connection.Close()
	activities := activityfeedv1.NewActivityServiceClient(connection)
	feeds := activityfeedv1.NewFeedServiceClient(connection)
	follows := activityfeedv1.NewFollowServiceClient(connection)
	subscriptions := activityfeedv1.NewSubscriptionServiceClient(connection)

	// Entities need not be created. Names of their own, so that the example can run again.
	name := fmt.Sprintf("%x", time.Now().UnixNano())
	author, reader := "author:"+name, "reader:"+name
	ctx := context.Background()
	if _, err := follows.Follow(ctx, &activityfeedv1.FollowRequest{
		Follower: reader, Followee: author, RequestId: name,
	}); err != nil {
		return err
	}
	for number := range 5 {
		if err := publish(ctx, activities, author, name, number); err != nil {
			return err
		}
	}
	walked, err := walk(ctx, feeds, reader)
	if err != nil {
		return err
	}
	fmt.Printf("walked %d activities\n", len(walked))

	feed := newKept()
	following, stop := context.WithCancel(ctx)
	defer stop()
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		if err := keep(following, subscriptions, feeds, reader, feed); err != nil {
			log.Fatal(err)
		}
	}()
	published := 5
	for until := time.Now().Add(publishing); time.Now().Before(until); published++ {
		if err := publish(ctx, activities, author, name, published); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	walked, err = walk(ctx, feeds, reader)
	if err != nil {
		return err
	}
	for wait := time.Now().Add(20 * time.Second); time.Now().Before(wait) && len(feed.items()) < len(walked); {
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	done.Wait()
	found := feed.items()
	fmt.Printf("published %d, kept %d, resumed %d times\n", published, len(found), feed.resumed)
	if len(walked) != published || len(found) != len(walked) {
		return fmt.Errorf("the feed has %d activities, its copy %d, published were %d",
			len(walked), len(found), published)
	}
	for place, item := range found {
		if item.GetItemId() != walked[place].GetItemId() {
			return fmt.Errorf("the copy differs at place %d", place)
		}
	}
	return nil
}

// publish publishes an activity once, however often it has to ask.
func publish(ctx context.Context, client activityfeedv1.ActivityServiceClient, author, name string, number int) error {
	request := &activityfeedv1.PublishActivityRequest{
		Activity: &activityfeedv1.Activity{
			Actor: author,
			Verb:  "post",
			Object: &activityfeedv1.Ref{
				Subject: &activityfeedv1.Ref_Id{Id: fmt.Sprintf("note:%d", number)}, Type: "Note",
			},
		},
		RequestId: fmt.Sprintf("%s:%d", name, number),
	}
	for attempt := 0; ; attempt++ {
		_, err := client.PublishActivity(ctx, request)
		if err == nil {
			return nil
		}
		if attempt == 20 || !passes(err) {
			return fmt.Errorf("publish: %s: %w", reason(err), err)
		}
		time.Sleep(pause(err, attempt))
	}
}

// passes says whether the same request, with the same request id, may succeed later.
func passes(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	case codes.ResourceExhausted:
		return retryAfter(err) > 0
	default:
		return false
	}
}

// walk reads a feed from its newest page to its end.
func walk(ctx context.Context, client activityfeedv1.FeedServiceClient, user string) ([]*activityfeedv1.FeedItem, error) {
	var items []*activityfeedv1.FeedItem
	request := &activityfeedv1.GetFeedRequest{User: user, PageSize: 3}
	for {
		answer, err := client.GetFeed(ctx, request)
		if err != nil {
			return nil, err
		}
		items = append(items, answer.GetPage().GetItems()...)
		// Only an empty token is the end: a page may be empty and have one.
		if request.PageToken = answer.GetPage().GetNextPageToken(); request.PageToken == "" {
			return items, nil
		}
	}
}

// kept is a copy of a feed: items by their id, in the order of their keys.
type kept struct {
	lock    sync.Mutex
	byID    map[string]*activityfeedv1.FeedItem
	resumed int
}

func newKept() *kept { return &kept{byID: map[string]*activityfeedv1.FeedItem{}} }

func (k *kept) put(items ...*activityfeedv1.FeedItem) {
	k.lock.Lock()
	defer k.lock.Unlock()
	for _, item := range items {
		k.byID[item.GetItemId()] = item
	}
}

func (k *kept) remove(itemID string) {
	k.lock.Lock()
	defer k.lock.Unlock()
	delete(k.byID, itemID)
}

func (k *kept) replace(items []*activityfeedv1.FeedItem) {
	k.lock.Lock()
	clear(k.byID)
	k.lock.Unlock()
	k.put(items...)
}

func (k *kept) items() []*activityfeedv1.FeedItem {
	k.lock.Lock()
	defer k.lock.Unlock()
	items := make([]*activityfeedv1.FeedItem, 0, len(k.byID))
	for _, item := range k.byID {
		items = append(items, item)
	}
	sort.Slice(items, func(one, other int) bool {
		return bytes.Compare(items[one].GetSortKey(), items[other].GetSortKey()) > 0
	})
	return items
}

// keep keeps a copy of a feed until the context ends.
func keep(ctx context.Context, client activityfeedv1.SubscriptionServiceClient,
	feeds activityfeedv1.FeedServiceClient, user string, feed *kept) error {
	token := ""
	for attempt := 0; ctx.Err() == nil; attempt++ {
		before := token
		err := follow(ctx, client, feeds, user, feed, &token)
		if ctx.Err() != nil {
			return nil
		}
		if token != before {
			attempt = 0
		}
		switch {
		case status.Code(err) == codes.OutOfRange && reason(err) == "RESUME_TOKEN_EXPIRED":
			// Events are missing. Begin where the log goes on, then read all that was missed.
			token = metadata(err)["resume_token"]
			if err := reread(ctx, feeds, user, feed); err != nil {
				return err
			}
		case passes(err), errors.Is(err, context.Canceled), errors.Is(err, io.EOF),
			status.Code(err) == codes.Canceled,
			status.Code(err) == codes.Aborted && reason(err) == "STREAM_NOT_READ":
			time.Sleep(pause(err, attempt))
		default:
			return fmt.Errorf("subscribe: %s: %w", reason(err), err)
		}
	}
	return nil
}

// follow applies the messages of one stream; token is that of the last one that was applied.
func follow(ctx context.Context, client activityfeedv1.SubscriptionServiceClient,
	feeds activityfeedv1.FeedServiceClient, user string, feed *kept, token *string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &activityfeedv1.SubscribeFeedRequest{User: user, ResumeToken: *token}
	if *token == "" {
		request.InitialPageSize = 100
	}
	stream, err := client.SubscribeFeed(ctx, request)
	if err != nil {
		return err
	}
	alive := time.AfterFunc(silence, cancel)
	defer alive.Stop()
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		alive.Reset(silence)
		switch said := message.GetMessage().(type) {
		case *activityfeedv1.SubscribeFeedResponse_Started:
			if said.Started.GetStart() == activityfeedv1.SubscriptionStart_SUBSCRIPTION_START_RESUMED {
				feed.resumed++
			} else {
				feed.replace(said.Started.GetPage().GetItems())
			}
		case *activityfeedv1.SubscribeFeedResponse_Events:
			changed := false
			for _, event := range said.Events.GetEvents() {
				switch what := event.GetEvent().(type) {
				case *activityfeedv1.FeedEvent_Added:
					feed.put(what.Added)
				case *activityfeedv1.FeedEvent_Removed:
					feed.remove(what.Removed.GetItemId())
				case *activityfeedv1.FeedEvent_SourceChanged:
					changed = true
				}
			}
			if changed {
				if err := reread(ctx, feeds, user, feed); err != nil {
					return err
				}
			}
		}
		*token = message.GetResumeToken()
	}
}

// reread takes over what the feed holds now.
func reread(ctx context.Context, feeds activityfeedv1.FeedServiceClient, user string, feed *kept) error {
	items, err := walk(ctx, feeds, user)
	if err != nil {
		return err
	}
	feed.replace(items)
	return nil
}

// pause is how long to wait before the next attempt: as long as the service says, and a random time more, which grows.
func pause(err error, attempt int) time.Duration {
	longest := min(10*time.Second, 200*time.Millisecond<<min(attempt, 10))
	return retryAfter(err) + rand.N(longest)
}

// reason is why the service refused: a name of ErrorReason without its prefix; empty if gRPC itself did.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func metadata(err error) map[string]string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()
		}
	}
	return nil
}

func retryAfter(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
