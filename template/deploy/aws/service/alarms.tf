# Alarms on the objectives. The load balancer measures them, so they also notice a service that does not run.

locals {
  error_budget = 100 - var.availability_objective

  # An alarm fires if the budget of a month is spent this many times too fast: 14.4 spends 2 % of it in an hour, and 6
  # spends 5 % in 6 hours. See https://sre.google/workbook/alerting-on-slos/
  burn_rates = {
    fast = { rate = 14.4, period = 300, periods = 3 }
    slow = { rate = 6, period = 3600, periods = 6 }
  }
}

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26:CloudWatch cannot publish to a topic that AWS encrypts with its own key
  name = "${local.name}-alarms"
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = toset(var.alarm_emails)
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "availability" {
  for_each            = local.burn_rates
  alarm_name          = "${local.name}-availability-${each.key}"
  alarm_description   = "Too many requests fail with a 5xx: docs/runbook.md"
  comparison_operator = "GreaterThanThreshold"
  threshold           = min(each.value.rate * local.error_budget, 99)
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  # A single error among a handful of requests is not a trend.
  metric_query {
    id          = "percentage"
    label       = "Requests that fail (%)"
    expression  = "IF(requests >= 20, 100 * (FILL(service, 0) + FILL(balancer, 0)) / requests, 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = {
      requests = "RequestCount"
      service  = "HTTPCode_Target_5XX_Count"
      balancer = "HTTPCode_ELB_5XX_Count"
    }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/ApplicationELB"
        metric_name = metric_query.value
        stat        = "Sum"
        period      = each.value.period
        dimensions  = { LoadBalancer = aws_lb.this.arn_suffix }
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "latency" {
  alarm_name          = "${local.name}-latency"
  alarm_description   = "Too many requests are slow: docs/runbook.md"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  extended_statistic  = "p${var.latency_objective}"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix }
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.latency_seconds
  # Percentiles of a few requests say nothing.
  evaluate_low_sample_count_percentiles = "ignore"
  treat_missing_data                    = "notBreaching"
  alarm_actions                         = [aws_sns_topic.alarms.arn]
  ok_actions                            = [aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_metric_alarm" "no_healthy_task" {
  alarm_name          = "${local.name}-no-healthy-task"
  alarm_description   = "/health/ready of no task returns 200: docs/runbook.md"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HealthyHostCount"
  statistic           = "Maximum"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.service.arn_suffix }
  period              = 60
  evaluation_periods  = 3
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
