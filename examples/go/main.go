// A client of feedsvc, written from protos/ and docs/contract.md alone.
//
// The client publishes with retries, walks a feed, and keeps a live copy of the feed over restarts of the server. At the
// end it compares the copy with a walk, and exits with 1 if they differ.
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

// Time without a message after which a stream counts as dead: the server sends a heartbeat every 15 seconds.
const maxSilence = 45 * time.Second

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

	// Entities need not be created. New names in each run, so that the example can run again.
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

	feed := newFeedCopy()
	keeping, stop := context.WithCancel(ctx)
	defer stop()
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		if err := keep(keeping, subscriptions, feeds, reader, feed); err != nil {
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
	copied := feed.items()
	fmt.Printf("published %d, kept %d, resumed %d times\n", published, len(copied), feed.resumed)
	if len(walked) != published || len(copied) != len(walked) {
		return fmt.Errorf("%d activities were published, the feed has %d and its copy %d",
			published, len(walked), len(copied))
	}
	for index, item := range copied {
		if item.GetItemId() != walked[index].GetItemId() {
			return fmt.Errorf("the copy differs from the feed at item %d", index)
		}
	}
	return nil
}

// publish publishes an activity exactly once, however many attempts it takes.
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
		if attempt == 20 || !isTransient(err) {
			return fmt.Errorf("publish: %s: %w", reason(err), err)
		}
		time.Sleep(pause(err, attempt))
	}
}

// isTransient returns whether the same request, with the same request id, may succeed later.
func isTransient(err error) bool {
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
		response, err := client.GetFeed(ctx, request)
		if err != nil {
			return nil, err
		}
		items = append(items, response.GetPage().GetItems()...)
		// Only an empty token is the end: an empty page may have a token.
		if request.PageToken = response.GetPage().GetNextPageToken(); request.PageToken == "" {
			return items, nil
		}
	}
}

// feedCopy is a copy of a feed. Its items are found by id and listed in the order of their keys, newest first.
type feedCopy struct {
	lock    sync.Mutex
	byID    map[string]*activityfeedv1.FeedItem
	resumed int
}

func newFeedCopy() *feedCopy { return &feedCopy{byID: map[string]*activityfeedv1.FeedItem{}} }

func (c *feedCopy) put(items ...*activityfeedv1.FeedItem) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, item := range items {
		c.byID[item.GetItemId()] = item
	}
}

func (c *feedCopy) remove(itemID string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	delete(c.byID, itemID)
}

func (c *feedCopy) replace(items []*activityfeedv1.FeedItem) {
	c.lock.Lock()
	clear(c.byID)
	c.lock.Unlock()
	c.put(items...)
}

func (c *feedCopy) items() []*activityfeedv1.FeedItem {
	c.lock.Lock()
	defer c.lock.Unlock()
	items := make([]*activityfeedv1.FeedItem, 0, len(c.byID))
	for _, item := range c.byID {
		items = append(items, item)
	}
	sort.Slice(items, func(i, j int) bool {
		return bytes.Compare(items[i].GetSortKey(), items[j].GetSortKey()) > 0
	})
	return items
}

// keep keeps a copy of a feed until the context ends.
func keep(ctx context.Context, client activityfeedv1.SubscriptionServiceClient,
	feeds activityfeedv1.FeedServiceClient, user string, feed *feedCopy) error {
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
			// Events are missing. Resume where the log goes on, then read the whole feed again.
			token = metadata(err)["resume_token"]
			if err := reread(ctx, feeds, user, feed); err != nil {
				return err
			}
		case isTransient(err), errors.Is(err, context.Canceled), errors.Is(err, io.EOF),
			status.Code(err) == codes.Canceled,
			status.Code(err) == codes.Aborted && reason(err) == "STREAM_NOT_READ":
			time.Sleep(pause(err, attempt))
		default:
			return fmt.Errorf("subscribe: %s: %w", reason(err), err)
		}
	}
	return nil
}

// follow applies the messages of one stream. token becomes the token of the last message that was applied.
func follow(ctx context.Context, client activityfeedv1.SubscriptionServiceClient,
	feeds activityfeedv1.FeedServiceClient, user string, feed *feedCopy, token *string) error {
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
	watchdog := time.AfterFunc(maxSilence, cancel)
	defer watchdog.Stop()
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		watchdog.Reset(maxSilence)
		switch body := message.GetMessage().(type) {
		case *activityfeedv1.SubscribeFeedResponse_Started:
			if body.Started.GetStart() == activityfeedv1.SubscriptionStart_SUBSCRIPTION_START_RESUMED {
				feed.resumed++
			} else {
				feed.replace(body.Started.GetPage().GetItems())
			}
		case *activityfeedv1.SubscribeFeedResponse_Events:
			sourceChanged := false
			for _, event := range body.Events.GetEvents() {
				switch change := event.GetEvent().(type) {
				case *activityfeedv1.FeedEvent_Added:
					feed.put(change.Added)
				case *activityfeedv1.FeedEvent_Removed:
					feed.remove(change.Removed.GetItemId())
				case *activityfeedv1.FeedEvent_SourceChanged:
					sourceChanged = true
				}
			}
			if sourceChanged {
				if err := reread(ctx, feeds, user, feed); err != nil {
					return err
				}
			}
		}
		*token = message.GetResumeToken()
	}
}

// reread replaces the copy by the items that the feed has now.
func reread(ctx context.Context, feeds activityfeedv1.FeedServiceClient, user string, feed *feedCopy) error {
	items, err := walk(ctx, feeds, user)
	if err != nil {
		return err
	}
	feed.replace(items)
	return nil
}

// pause returns the time to wait before the next attempt: the time that the service demands, and a random time, which
// grows with the attempts.
func pause(err error, attempt int) time.Duration {
	maxBackoff := min(10*time.Second, 200*time.Millisecond<<min(attempt, 10))
	return retryAfter(err) + rand.N(maxBackoff)
}

// reason returns why the service refused a call: a name of ErrorReason without its prefix. It is empty if the error comes
// from gRPC itself.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// metadata returns the metadata of the service's error, for example the fresh resume_token.
func metadata(err error) map[string]string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()
		}
	}
	return nil
}

// retryAfter returns the time that the service demands before the next attempt; 0 if it demands none.
func retryAfter(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
