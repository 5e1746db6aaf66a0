package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimeoutBeginsAnewWithEveryEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancelCause(t.Context())
		w := &watchRun{watchOptions: watchOptions{timeout: time.Minute}}
		restart := w.startTimers(end)
		for range 3 {
			<-time.After(59 * time.Second)
			if ctx.Err() != nil {
				t.Fatalf("ended %v before the timeout: %v", time.Second, context.Cause(ctx))
			}
			restart()
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if context.Cause(ctx) != errIdle {
			t.Errorf("the timeout ended it with %v", context.Cause(ctx))
		}
	})
}

func TestDurationIsNotExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancelCause(t.Context())
		w := &watchRun{watchOptions: watchOptions{duration: time.Minute, timeout: time.Hour}}
		restart := w.startTimers(end)
		<-time.After(59 * time.Second)
		restart()
		<-time.After(time.Second)
		synctest.Wait()
		if context.Cause(ctx) != errDuration {
			t.Errorf("the duration ended it with %v", context.Cause(ctx))
		}
	})
}
